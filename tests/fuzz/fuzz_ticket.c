/* Ticket texts: what parses is written as the same text; what does not is named. The input is taken
 * as a text, and as the bytes of a ticket whose checksum holds, which no text found by chance has. */
#define P2P_DEBUG
#define P2P_IMPLEMENTATION
#include "p2p.h"
#include "replay.h"

static void check(const char *text) {
    char again[P2P_TICKET_TEXT_SIZE];
    p2p_ticket ticket;
    int err = p2p_ticket_parse(text, &ticket);
    FUZZ_CHECK((err == P2P_OK) == (p2p_ticket_fault(text) == NULL));
    FUZZ_CHECK(err == P2P_OK || err == P2P_ERR_ARG || err == P2P_ERR_INVALID_ID ||
               err == P2P_ERR_PROTOCOL);
    if (err != P2P_OK)
        return;
    FUZZ_CHECK(ticket.addr_count <= P2P_TICKET_ADDRS);
    FUZZ_CHECK(p2p_ticket_text(&ticket, again) == (int)strlen(text));
    FUZZ_CHECK(strcmp(text, again) == 0);
}

static void check_bytes(const uint8_t *data, size_t size) {
    uint8_t bytes[P2P__TICKET_BYTES + 16];
    char text[sizeof bytes * 2];
    p2p__writer w = p2p__writer_of(bytes, sizeof bytes);
    p2p__put_bytes(&w, data, size);
    p2p__put_u32(&w, p2p__ticket_sum(data, size));
    if (w.bad)
        return;
    memset(text, 0, sizeof text);
    memcpy(text, "p2p1", 4);
    p2p__z32_put(bytes, (size_t)(w.at - bytes), text + 4);
    check(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *text = (char *)malloc(size + 1);
    if (!text)
        return 0;
    if (size)
        memcpy(text, data, size);
    text[size] = 0;
    check(text);
    check_bytes(data, size);
    free(text);
    return 0;
}

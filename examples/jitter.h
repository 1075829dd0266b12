/* jitter.h: a jitter buffer: packets come in any order, or not at all, and leave one by one in
 * order, at the pace of whoever takes them.
 *
 * Each packet has a number. JITTER_SLOTS of them have a place, from the one that is played next on.
 * Playing begins once JITTER_START of them are here, and pauses to gather as many again when it
 * runs dry: late packets then cost a pause and no sound. A packet that is missing while later ones
 * are here is given up. It touches no clock and no memory but its own. */
#ifndef JITTER_H
#define JITTER_H
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { JITTER_SLOTS = 16, JITTER_START = 8, JITTER_BYTES = 480 };

/* What became of a packet, or what there is to play. */
enum {
    JITTER_TAKEN,
    JITTER_LATE, /* its turn is over, or it is here already */
    JITTER_FULL, /* too far ahead: play one first */
    JITTER_PLAY, /* *out is the packet */
    JITTER_LOST, /* this packet is missing: play something in its place */
    JITTER_WAIT  /* not enough is here */
};

typedef struct jitter {
    uint32_t next, held; /* the number to be played, packets that are here */
    uint32_t lost, late, pauses;
    bool playing;
    uint16_t size[JITTER_SLOTS]; /* 0: not here */
    uint8_t bytes[JITTER_SLOTS][JITTER_BYTES];
} jitter;

static inline void jitter_reset(jitter *j) { memset(j, 0, sizeof *j); }

/* size: 1 to JITTER_BYTES. */
static inline int jitter_put(jitter *j, uint32_t number, const uint8_t *data, size_t size) {
    uint32_t ahead = number - j->next, slot = number % JITTER_SLOTS;
    if (ahead >= UINT32_MAX / 2 || (ahead < JITTER_SLOTS && j->size[slot] > 0)) {
        j->late++;
        return JITTER_LATE;
    }
    if (ahead >= JITTER_SLOTS && j->held > 0)
        return JITTER_FULL;
    if (ahead >= JITTER_SLOTS) { /* nothing to play on the way there: a jump, however far */
        j->lost += ahead;
        j->next = number;
    }
    memcpy(j->bytes[slot], data, size);
    j->size[slot] = (uint16_t)size;
    j->held++;
    return JITTER_TAKEN;
}

/* The next packet, whether or not enough is here; out->size 0: lost. It holds until the next
 * call. */
static inline int jitter_force(jitter *j, const uint8_t **out, size_t *size) {
    uint32_t slot = j->next % JITTER_SLOTS;
    j->next++;
    *out = j->bytes[slot];
    *size = j->size[slot];
    if (j->size[slot] == 0) {
        j->lost++;
        return JITTER_LOST;
    }
    j->size[slot] = 0;
    j->held--;
    return JITTER_PLAY;
}

/* What is to be played now. With `ended` nothing more is waited for. */
static inline int jitter_take(jitter *j, bool ended, const uint8_t **out, size_t *size) {
    if (j->held == 0 && j->playing) {
        j->playing = false;
        j->pauses++;
    }
    if (!j->playing && (j->held >= JITTER_START || (ended && j->held > 0)))
        j->playing = true;
    return j->playing ? jitter_force(j, out, size) : JITTER_WAIT;
}
#endif

/* sound.c: where the speaker's audio goes. */
#include "sound.h"
#include <sodium/crypto_hash_sha256.h>

static crypto_hash_sha256_state hash;

size_t sound_output(const uint8_t *samples, size_t size) {
    (void)samples;
    return size;
}

static void begin(void *ctx) {
    (void)ctx;
    (void)crypto_hash_sha256_init(&hash);
}

static size_t take(void *ctx, const uint8_t *data, size_t size) {
    size_t taken = sound_output(data, size);
    (void)ctx;
    (void)crypto_hash_sha256_update(&hash, data, taken);
    return taken;
}

static void end(void *ctx, char sha256[65]) {
    static const char digits[] = "0123456789abcdef";
    uint8_t bytes[crypto_hash_sha256_BYTES];
    size_t i;
    (void)ctx;
    (void)crypto_hash_sha256_final(&hash, bytes);
    for (i = 0; i < sizeof bytes; i++) {
        sha256[2 * i] = digits[bytes[i] >> 4];
        sha256[2 * i + 1] = digits[bytes[i] & 15];
    }
    sha256[64] = 0;
}

void sound_sink(speaker_sink *out) {
    out->begin = begin;
    out->take = take;
    out->end = end;
    out->ctx = NULL;
}

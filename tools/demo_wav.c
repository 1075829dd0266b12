/* demo_wav FILE: 30 s of music for the demo, 16 bit, 44.1 kHz, stereo: four chords, each note a
 * little to one side, with a slow rise and fall. The same bytes every time: integers only, sine by
 * a rotating phasor. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { RATE = 44100, SECONDS = 30, CHORD_SAMPLES = RATE * 5 / 2, NOTES = 4, CHORDS = 4 };

/* A point that turns by a fixed angle a sample; 2 sin(angle / 2) is the step, in 1 / 65536. */
typedef struct phasor {
    int64_t x, y, step;
} phasor;

static int32_t turn(phasor *p) {
    p->x -= p->step * p->y / 65536;
    p->y += p->step * p->x / 65536;
    return (int32_t)(p->y >> 12);
}

static void put(uint8_t *out, uint32_t value, int bytes) {
    int i;
    for (i = 0; i < bytes; i++)
        out[i] = (uint8_t)(value >> (8 * i));
}

static void head(uint8_t out[44]) {
    const uint32_t size = (uint32_t)RATE * SECONDS * 4;
    memcpy(out, "RIFF....WAVEfmt ....................data....", 44);
    put(out + 4, size + 36, 4);
    put(out + 16, 16, 4);
    put(out + 20, 1, 2);
    put(out + 22, 2, 2);
    put(out + 24, RATE, 4);
    put(out + 28, RATE * 4, 4);
    put(out + 32, 4, 2);
    put(out + 34, 16, 2);
    put(out + 40, size, 4);
}

/* Loudness of a note at its sample n, 0 to 256: up within 50 ms, then down to silence. */
static int32_t loudness(int32_t n) {
    const int32_t rise = RATE / 20;
    if (n < rise)
        return n * 256 / rise;
    return (int32_t)((int64_t)256 * (CHORD_SAMPLES - n) / (CHORD_SAMPLES - rise));
}

int main(int argc, char **argv) {
    /* C, A minor, F, G in millihertz. */
    static const uint32_t hertz[CHORDS][NOTES] = {{130813, 261626, 329628, 391995},
                                                  {110000, 261626, 329628, 440000},
                                                  {87307, 261626, 349228, 440000},
                                                  {97999, 246942, 293665, 391995}};
    uint8_t bytes[44];
    phasor notes[NOTES];
    int32_t n, k, left, right, value;
    FILE *out = argc == 2 ? fopen(argv[1], "wb") : NULL;
    if (!out)
        return 1;
    head(bytes);
    (void)fwrite(bytes, 1, 44, out);
    for (n = 0; n < RATE * SECONDS; n++) {
        for (k = 0; k < NOTES && n % CHORD_SAMPLES == 0; k++) {
            notes[k].x = (int64_t)6000 << 12;
            notes[k].y = 0;
            notes[k].step = (int64_t)hertz[n / CHORD_SAMPLES % CHORDS][k] * 411775 / RATE / 1000;
        }
        for (k = 0, left = 0, right = 0; k < NOTES; k++) {
            value = turn(&notes[k]) * loudness(n % CHORD_SAMPLES) / 256;
            left += value * (4 - k) / 4;
            right += value * (k + 1) / 4;
        }
        put(bytes, (uint32_t)(left + right / 4), 2);
        put(bytes + 2, (uint32_t)(right + left / 4), 2);
        (void)fwrite(bytes, 1, 4, out);
    }
    return fclose(out) == 0 ? 0 : 1;
}

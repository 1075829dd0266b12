/* sound.h: where the speaker's audio goes. */
#ifndef SOUND_H
#define SOUND_H
#include "speaker_app.h"

/* The sink of speaker_app.h: hashes and counts, and gives all to sound_output. */
void sound_sink(speaker_sink *out);
/* THE FUNCTION TO FILL IN for real hardware: copies samples (16 bit, interleaved, little-endian)
 * into the ring that the I2S controller reads by DMA, and returns how many bytes it had room for.
 * Call speaker_pump when the DMA interrupt has made room again. As it stands it takes all. */
size_t sound_output(const uint8_t *samples, size_t size);

#endif

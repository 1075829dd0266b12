#ifndef P2P_SCENE_RANDOM_H
#define P2P_SCENE_RANDOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SCENE_RANDOM_SIZE = 16384 }; /* more than any drawn scenario has */

/* The text of a scenario file, with its NUL; equal seeds, equal texts. */
void scene_random(uint64_t seed, char *out, size_t size);

#endif

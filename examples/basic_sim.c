/* basic_sim: basic.c, compiled for the simulator. */
#define BASIC_SIM
#include "basic.c"

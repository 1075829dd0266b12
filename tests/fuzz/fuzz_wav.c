/* Sound in a WAV file, as the streamer finds it: always within the file, at a rate that can be
 * played. */
#define P2P_DEBUG
#define P2P_IMPLEMENTATION
#include "p2p.h"
#include "../../examples/streamer_app.h"
#include "replay.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    streamer_track track;
    memset(&track, 0, sizeof track);
    track.data = data;
    track.size = size;
    streamer_find_sound(&track);
    if (track.sound == NULL)
        return 0;
    FUZZ_CHECK(track.sound >= data && track.sound_size > 0);
    FUZZ_CHECK(track.sound_size <= size - (size_t)(track.sound - data));
    FUZZ_CHECK(track.byte_rate >= 8000 && track.byte_rate <= 1000000);
    FUZZ_CHECK(streamer_packet_us(&track) > 0);
    return 0;
}

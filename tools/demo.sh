#!/usr/bin/env bash
# The demo: a streamer and a speaker, two processes that know of each other only a public key and
# where it listens, find each other over UDP and DTLS on this machine and play a piece of music.
# BUILD: where the programs lie (build).
set -eu
cd "$(dirname "$0")/.."
build=${BUILD:-build}
work=$(mktemp -d "${TMPDIR:-/tmp}/p2p-demo.XXXXXX")
streamer=

finish() {
    if [ -n "$streamer" ]; then
        kill -INT "$streamer" 2>/dev/null || true
        wait "$streamer" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 1' INT TERM

wav=$build/demo.wav
if [ ! -s "$wav" ]; then
    ${CC:-cc} -O2 -o "$work/demo_wav" tools/demo_wav.c
    "$work/demo_wav" "$wav.new"
    mv "$wav.new" "$wav"
fi
echo "track       $wav, $(wc -c <"$wav") bytes: 30 s, 16 bit, 44.1 kHz, stereo"

"$build/examples/streamer" --listen 127.0.0.1 "$wav" >"$work/ticket" 2>"$work/streamer.log" &
streamer=$!
for _ in $(seq 100); do
    [ -s "$work/ticket" ] && break
    kill -0 "$streamer" 2>/dev/null || break
    sleep 0.05
done
if [ ! -s "$work/ticket" ]; then
    cat "$work/streamer.log" >&2
    echo "demo: the streamer did not start" >&2
    exit 1
fi
ticket=$(head -n 1 "$work/ticket")
echo "ticket      $ticket"

if ! timeout 50 "$build/examples/speaker_posix" "$ticket" demo.wav "$work/played.wav"; then
    cat "$work/streamer.log" >&2
    echo "demo: the speaker did not get the track" >&2
    exit 1
fi
kill -INT "$streamer"
wait "$streamer" || true
streamer=

sent=$(sha256sum <"$wav" | cut -d' ' -f1)
played=$(sha256sum <"$work/played.wav" | cut -d' ' -f1)
said=$(sed -n 's/^streamer: \(heard with.*\)/\1/p' "$work/streamer.log")
echo "streamer    says: $said"
echo "sha256sum   $sent  what was offered"
echo "sha256sum   $played  what was played"
if [ "$sent" != "$played" ] || ! grep -aq "heard with SHA-256 $sent" "$work/streamer.log"; then
    echo "demo: the two ends do not have the same bytes" >&2
    exit 1
fi
echo "Both ends have the same bytes."

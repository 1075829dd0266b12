/* replay.h: the frame of a fuzz target. With -DP2P_FUZZ the engine brings main (libFuzzer). Without
 * it this main gives the target every file named as an argument, or else all of
 * tests/fuzz/corpus/<name of the program>, and so makes the target a test. */
#ifndef P2P_FUZZ_REPLAY_H
#define P2P_FUZZ_REPLAY_H
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A property that an input breaks ends the run, so that the engine keeps the input. */
#define FUZZ_CHECK(condition)                                                                   \
    do {                                                                                        \
        if (!(condition)) {                                                                     \
            fprintf(stderr, "%s:%d: this does not hold: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                                            \
        }                                                                                       \
    } while (0)

#ifdef __cplusplus
extern "C"
#endif
    int
    LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#ifndef P2P_FUZZ
#include <dirent.h>

/* The input lies in memory of just its size, so that sanitizers see a read beyond it. */
static int replay_file(const char *path) {
    FILE *file = fopen(path, "rb");
    uint8_t *data = NULL;
    long size = -1;
    int read = 0;
    if (file && fseek(file, 0, SEEK_END) == 0)
        size = ftell(file);
    if (size >= 0 && fseek(file, 0, SEEK_SET) == 0)
        data = (uint8_t *)malloc(size ? (size_t)size : 1);
    if (data)
        read = fread(data, 1, (size_t)size, file) == (size_t)size;
    if (file)
        fclose(file);
    if (read) {
        printf("%s\n", path);
        fflush(stdout);
        LLVMFuzzerTestOneInput(data, (size_t)size);
    } else {
        printf("cannot read %s\n", path);
    }
    free(data);
    return read;
}

static int replay_corpus(const char *program, int *failed) {
    const char *name = strrchr(program, '/');
    char folder[512], path[1024];
    struct dirent *entry;
    DIR *dir;
    int count = 0;
    snprintf(folder, sizeof folder, "tests/fuzz/corpus/%s", name ? name + 1 : program);
    dir = opendir(folder);
    while (dir && (entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        *failed |= !replay_file(path);
        count++;
    }
    if (dir)
        closedir(dir);
    else
        printf("no folder %s; run this in the project's own, or name files\n", folder);
    return count;
}

int main(int argc, char **argv) {
    int count = argc - 1, failed = 0;
    for (int i = 1; i < argc; i++)
        failed |= !replay_file(argv[i]);
    if (argc < 2)
        count = replay_corpus(argv[0], &failed);
    if (!count)
        failed = 1;
    printf("%d inputs\n%d passed, %d failed\n", count, !failed, failed);
    return failed;
}
#endif
#endif

/* Where a body goes: stdout, a device, or a file that gets its name only when it is whole. */
#include "p2p_tool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int sink_error(tool_sink *s, const char *doing) {
    int err = errno;
    const char *advice = "";
    if (err == ENOSPC || err == EFBIG || err == EDQUOT)
        advice = "; make room or choose another place, nothing was left under this name";
    if (err == EPIPE)
        advice = "; its reader is gone";
    (void)tool_fail(s->command, "cannot %s %s: %s%s", doing, s->path ? s->path : "stdout",
                    strerror(err), advice);
    return -1;
}

static int sink_temporary(tool_sink *s) {
    size_t room = strlen(s->path) + 16;
    mode_t mask = umask(0);
    (void)umask(mask);
    s->temporary = (char *)malloc(room);
    if (!s->temporary)
        return tool_fail(s->command, "no memory");
    (void)snprintf(s->temporary, room, "%s.part-XXXXXX", s->path);
    s->fd = mkstemp(s->temporary);
    if (s->fd < 0) {
        (void)sink_error(s, "write");
        free(s->temporary);
        s->temporary = NULL;
        return TOOL_FAILED;
    }
    tool_temporary(s->temporary);
    (void)fchmod(s->fd, 0666 & ~mask);
    return TOOL_OK;
}

int tool_sink_open(tool_sink *s, const char *command, const char *path) {
    struct stat info;
    memset(s, 0, sizeof *s);
    s->command = command;
    s->fd = STDOUT_FILENO;
    if (!path || strcmp(path, "-") == 0) {
        s->terminal = isatty(STDOUT_FILENO) == 1;
        s->direct = fstat(STDOUT_FILENO, &info) == 0 && S_ISREG(info.st_mode);
        return TOOL_OK;
    }
    s->path = realpath(path, NULL); /* what a link names is replaced, not the link */
    if (!s->path)
        s->path = strdup(path);
    if (!s->path)
        return tool_fail(command, "no memory");
    if (stat(s->path, &info) == 0 && S_ISDIR(info.st_mode))
        return tool_fail(command, "cannot write %s: it is a directory, name a file in it", s->path);
    s->direct = true;
    if (stat(s->path, &info) != 0 || S_ISREG(info.st_mode))
        return sink_temporary(s);
    s->fd = open(s->path, O_WRONLY | O_CLOEXEC | O_NOCTTY); /* a device or pipe stays what it is */
    if (s->fd < 0)
        return sink_error(s, "open"), TOOL_FAILED;
    return TOOL_OK;
}

/* True when a write of `size` bytes cannot block: files never do, and pipes that poll(2) calls
 * writable take PIPE_BUF bytes. */
static bool sink_ready(const tool_sink *s) {
    struct pollfd wait;
    wait.fd = s->fd;
    wait.events = POLLOUT;
    wait.revents = 0;
    return s->direct || poll(&wait, 1, 0) > 0;
}

/* How many of the bytes end with a whole character, so that none is torn between two writes. */
static size_t whole_characters(const uint8_t *data, size_t size) {
    size_t back, need;
    for (back = 1; back <= 3 && back < size; back++) {
        uint8_t lead = data[size - back];
        if (lead < 0x80)
            return size;
        need = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
        if (lead >= 0xc0)
            return need > back ? size - back : size;
    }
    return size;
}

int tool_sink_write(tool_sink *s, const uint8_t *data, size_t size) {
    ssize_t n;
    if (!sink_ready(s))
        return 0;
    if (s->terminal) {
        size = whole_characters(data, size < 1024 ? size : 1024);
        tool_print_safe(stdout, data, size, true);
        (void)fflush(stdout);
        return (int)size;
    }
    if (!s->direct && size > 4096)
        size = 4096;
    n = write(s->fd, data, size < 1u << 20 ? size : 1u << 20);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    return n < 0 ? sink_error(s, "write") : (int)n;
}

int tool_sink_finish(tool_sink *s) {
    int rc = TOOL_OK;
    if (s->temporary && (fsync(s->fd) < 0 || rename(s->temporary, s->path) < 0)) {
        (void)sink_error(s, "write");
        rc = TOOL_FAILED;
    } else if (s->temporary) {
        tool_temporary(NULL);
        free(s->temporary);
        s->temporary = NULL;
    }
    if (s->path && s->fd >= 0 && close(s->fd) < 0 && rc == TOOL_OK)
        rc = sink_error(s, "write") < 0 ? TOOL_FAILED : TOOL_OK;
    s->fd = -1;
    tool_sink_abandon(s);
    return rc;
}

void tool_sink_abandon(tool_sink *s) {
    if (s->temporary)
        (void)unlink(s->temporary);
    tool_temporary(NULL);
    if (s->path && s->fd >= 0)
        (void)close(s->fd);
    free(s->temporary);
    free(s->path);
    memset(s, 0, sizeof *s);
    s->fd = -1;
}

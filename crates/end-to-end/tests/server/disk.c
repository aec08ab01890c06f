/* For a program whose disk fails, and whose syncs are seen: fsync and fdatasync fail
 * while the file is there that FAILING_SYNCS names. The paths that were synced are
 * lines of the file that SYNCED names. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void note(int file) {
    char link[64], line[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, line, sizeof line - 1);
    if (length < 0) return;
    line[length] = '\n';
    int notes = open(getenv("SYNCED"), O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (write(notes, line, length + 1) < 0) abort();
    close(notes);
}

static int sync_by(const char *function, int file) {
    if (access(getenv("FAILING_SYNCS"), F_OK) == 0) {
        errno = EIO;
        return -1;
    }
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, function);
    int result = real(file);
    if (result == 0) note(file);
    return result;
}

int fsync(int file) { return sync_by("fsync", file); }

int fdatasync(int file) { return sync_by("fdatasync", file); }

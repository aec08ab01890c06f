/* For a program whose disk fails. The calls that make something durable, or a name,
 * fail with EIO while the file is there that FAILING names, and the one whose number
 * FAILING_CALL gives fails always. SYNCED names a file for the paths that were synced,
 * and the word "failed". */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define REAL(function) ((typeof(&function))dlsym(RTLD_NEXT, #function))

static void note(const char *line) {
    int notes = REAL(open64)(getenv("SYNCED"), O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (dprintf(notes, "%s\n", line) < 0) abort();
    close(notes);
}

static int fails(void) {
    static atomic_int calls;
    if (access(getenv("FAILING"), F_OK) != 0 && calls++ != atoi(getenv("FAILING_CALL"))) return 0;
    note("failed");
    errno = EIO;
    return 1;
}

static int synced(int file, int result) {
    char link[64], path[4096] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    if (result == 0 && readlink(link, path, sizeof path - 1) > 0) note(path);
    return result;
}

int fsync(int file) { return fails() ? -1 : synced(file, REAL(fsync)(file)); }

int fdatasync(int file) { return fails() ? -1 : synced(file, REAL(fdatasync)(file)); }

int rename(const char *from, const char *to) { return fails() ? -1 : REAL(rename)(from, to); }

int mkdir(const char *path, mode_t mode) { return fails() ? -1 : REAL(mkdir)(path, mode); }

int open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return flags & O_CREAT && fails() ? -1 : REAL(open64)(path, flags, mode);
}

/* For a program whose disk fails: fsync and fdatasync do while the file is there
 * that FAILING_SYNCS names. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static int sync_by(const char *function, int file) {
    const char *failing = getenv("FAILING_SYNCS");
    if (failing && access(failing, F_OK) == 0) {
        errno = EIO;
        return -1;
    }
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, function);
    return real(file);
}

int fsync(int file) { return sync_by("fsync", file); }

int fdatasync(int file) { return sync_by("fdatasync", file); }

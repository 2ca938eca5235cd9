/* A slow disk, for one process: each sync takes SYNC_MICROSECONDS longer, and is counted in the
 * first eight bytes of the file SYNC_COUNT. Built and preloaded by bench/rig/slow_disk.py. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static _Atomic uint64_t *count;
static useconds_t delay;

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("SYNC_COUNT"), *microseconds = getenv("SYNC_MICROSECONDS");
    delay = microseconds ? (useconds_t)atoi(microseconds) : 0;
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *shared = mmap(NULL, 8, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (shared != MAP_FAILED) count = shared;
}

static int slow(const char *name, int file) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    if (count) atomic_fetch_add(count, 1);
    if (delay) usleep(delay);
    return real(file);
}

int fsync(int file) { return slow("fsync", file); }
int fdatasync(int file) { return slow("fdatasync", file); }

/* Preloaded into a program: its wall clock is off by what a file says, in nanoseconds, at every moment anew. Its other
 * clocks are the system's.
 *
 * Not libfaketime, which has Envoy's allocator wait for itself before main: nothing here allocates. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL

/* NULL before the constructor ran, which is not the first thing to happen. */
static const volatile int64_t *offset;

__attribute__((constructor)) static void begin(void) {
    const char *file = getenv("MESHMETER_SET_CLOCK");
    int descriptor = file ? open(file, O_RDONLY | O_CLOEXEC) : -1;
    if (descriptor < 0)
        abort();
    void *page = mmap(NULL, sizeof *offset, PROT_READ, MAP_SHARED, descriptor, 0);
    close(descriptor);
    if (page == MAP_FAILED)
        abort();
    offset = page;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = (int)syscall(SYS_clock_gettime, clock, now);
    if (!failed && offset && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t shown = now->tv_sec * SECOND + now->tv_nsec + *offset;
        now->tv_sec = shown / SECOND;
        now->tv_nsec = shown % SECOND;
    }
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    (void)zone;
    struct timespec shown;
    int failed = clock_gettime(CLOCK_REALTIME, &shown);
    if (!failed) {
        now->tv_sec = shown.tv_sec;
        now->tv_usec = shown.tv_nsec / 1000;
    }
    return failed;
}

time_t time(time_t *now) {
    struct timespec shown;
    clock_gettime(CLOCK_REALTIME, &shown);
    if (now)
        *now = shown.tv_sec;
    return shown.tv_sec;
}

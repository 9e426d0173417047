/*
 * A wrong clock for one program: what a server whose clock is off tells its programs. Containers share the kernel's clock, and
 * a time namespace moves the monotonic clock alone, so the clock is made wrong where programs read it. Loaded with LD_PRELOAD.
 *
 * HZ_CLOCK names a file with the seconds to add, e.g. `3600` or `-3600`; it is looked at once a second, so that a clock can
 * jump under a running program. Only the time of day is off. Waiting and the monotonic clock are as they are, as on a
 * server whose time of day was set.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile long offset_now;
static volatile long looked_at = -1;

static long offset(void)
{
    struct timespec tick;
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC_COARSE, &tick);
    if (tick.tv_sec != looked_at) {
        looked_at = tick.tv_sec;
        const char *path = getenv("HZ_CLOCK");
        int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        if (file >= 0) {
            char text[32] = { 0 };
            if (read(file, text, sizeof text - 1) > 0)
                offset_now = atol(text);
            close(file);
        }
    }
    return offset_now;
}

int clock_gettime(clockid_t clock, struct timespec *out)
{
    int done = (int)syscall(SYS_clock_gettime, clock, out);
    if (done == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        out->tv_sec += offset();
    return done;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone)
{
    (void)zone;
    struct timespec now;
    int done = clock_gettime(CLOCK_REALTIME, &now);
    out->tv_sec = now.tv_sec;
    out->tv_usec = now.tv_nsec / 1000;
    return done;
}

time_t time(time_t *out)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out)
        *out = now.tv_sec;
    return now.tv_sec;
}

int timespec_get(struct timespec *out, int base)
{
    return base == TIME_UTC && clock_gettime(CLOCK_REALTIME, out) == 0 ? base : 0;
}

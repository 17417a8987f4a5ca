/* Clocks that the harness bends: preloaded into a process, it answers clock_gettime by a file that the harness writes.
 * CLOCK_REALTIME is moved by an offset; CLOCK_MONOTONIC and CLOCK_BOOTTIME run at a rate. Built by the harness with `cc`. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

struct control {
  volatile uint64_t begun;  /* equal to `done` unless the harness is writing */
  volatile int64_t wall_ns; /* added to the wall clock */
  volatile int64_t base_ns; /* since when, on the monotonic clock, the rate holds */
  volatile int64_t ahead_ns; /* how far the monotonic clocks had been brought ahead by then */
  volatile int64_t rate_ppm; /* how much too fast they run since */
  volatile uint64_t done;
};

static struct control *control(void) {
  static struct control *mapped;
  struct control *found = __atomic_load_n(&mapped, __ATOMIC_ACQUIRE);
  if (found) return found;
  const char *path = getenv("JEPSEN_LITE_CLOCK");
  int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  if (file < 0) return NULL;
  found = mmap(NULL, sizeof *found, PROT_READ, MAP_SHARED, file, 0);
  close(file);
  if (found == MAP_FAILED) return NULL;
  __atomic_store_n(&mapped, found, __ATOMIC_RELEASE);
  return found;
}

int clock_gettime(clockid_t id, struct timespec *out) {
  int failed = (int)syscall(SYS_clock_gettime, id, out);
  struct control *bent = failed ? NULL : control();
  if (!bent) return failed;
  int64_t now = (int64_t)out->tv_sec * 1000000000 + out->tv_nsec;
  uint64_t done;
  int64_t added;
  do {
    done = __atomic_load_n(&bent->done, __ATOMIC_ACQUIRE);
    if (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)
      added = bent->wall_ns;
    else if (id == CLOCK_MONOTONIC || id == CLOCK_BOOTTIME || id == CLOCK_MONOTONIC_COARSE)
      added = bent->ahead_ns + (int64_t)((__int128)(now - bent->base_ns) * bent->rate_ppm / 1000000);
    else
      added = 0;
  } while (__atomic_load_n(&bent->begun, __ATOMIC_ACQUIRE) != done);
  now += added;
  out->tv_sec = now / 1000000000;
  out->tv_nsec = now % 1000000000;
  return 0;
}

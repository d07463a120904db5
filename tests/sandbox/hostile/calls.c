/* Builds that ask the system for what a module may not have. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hostile.h"

static void* do_nothing(void* nothing) {
  return nothing;
}
static void ignore(int number) {
  (void)number;
}

static NOT_INLINE void reach_out(void) {
#if defined(OPENS_A_SOCKET)
  socket(AF_INET, SOCK_DGRAM, 0);
#elif defined(READS_PASSWD)
  FILE* file = fopen("/etc/passwd", "r");
  if (file) fclose(file);
#elif defined(LOOKS_FOR_A_FILE)
  struct stat status;
  stat("/etc/shadow", &status);
#elif defined(WRITES_A_FILE)
  creat("/tmp/troupe-was-here", 0600);
#elif defined(EXECUTES)
  char* const arguments[] = {"/bin/sh", NULL};
  execve(arguments[0], arguments, NULL);
#elif defined(FORKS_FOREVER)
  for (;;) fork();
#elif defined(STARTS_A_THREAD)
  pthread_t thread;
  pthread_create(&thread, NULL, do_nothing, NULL);
#elif defined(KILLS_ITS_PARENT)
  kill(getppid(), SIGKILL);
#elif defined(TRACES)
  ptrace(PTRACE_TRACEME, 0, NULL, NULL);
#elif defined(CATCHES_SIGNALS)
  signal(SIGSYS, ignore);
#elif defined(HIDES_ITS_CALL)
  sigset_t all;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, NULL);
  socket(AF_INET, SOCK_DGRAM, 0);
#elif defined(BLOCKS_SIGNALS) /* as it may */
  sigset_t some, before, now;
  sigemptyset(&some);
  sigaddset(&some, SIGINT);
  if (sigprocmask(SIG_BLOCK, &some, &before) != 0 || sigismember(&before, SIGINT)) abort();
  if (sigprocmask(SIG_BLOCK, NULL, &now) != 0 || !sigismember(&now, SIGINT)) abort();
  if (sigprocmask(SIG_SETMASK, &before, &now) != 0 || !sigismember(&now, SIGINT)) abort();
  if (sigprocmask(SIG_BLOCK, NULL, &now) != 0 || sigismember(&now, SIGINT)) abort();
#elif defined(READS_THE_ENVIRONMENT)
  if (getenv("PATH") != NULL || getenv("HOME") != NULL) abort();
#endif
  (void)do_nothing;
  (void)ignore;
}

static troupe_status build(const char* config_json, size_t config_bytes, const troupe_build_host* host) {
  (void)config_json;
  (void)config_bytes;
  reach_out();
  return host->fail(host->context, TROUPE_FAILED, "came back");
}
HOSTILE_MODULE(build)

/* What the hostile modules share: a table that is right, around a build() that is not. */
#ifndef HOSTILE_H
#define HOSTILE_H

#include <stddef.h>
#include <troupe/module.h>

static const char* const hostile_architectures[] = {"HostileForCausalLM", NULL};

#define HOSTILE_MODULE(function)                                                   \
  const troupe_module* troupe_module_entry(void) {                                 \
    static const troupe_module module = {                                          \
        sizeof(troupe_module), TROUPE_ABI_MAJOR,      0,       "hostile", "6.6.6", \
        "For tests",           hostile_architectures, function};                   \
    return &module;                                                                \
  }

/* Keeps calls where a test looks for their names. */
#define NOT_INLINE __attribute__((noinline, noclone))

#endif

/* The interface between Troupe and a module: one model architecture in a shared library.
 *
 * A module is a compiler, not a runtime. Given the text of a checkpoint's config.json it emits a Program, a FlatBuffer
 * of the schema program.fbs, which Troupe verifies and runs. C++ authors use <troupe/sdk/...>, which is built on this
 * header; any language that can export one C function and write a FlatBuffer will do.
 *
 * The library exports one symbol, troupe_module_entry. Life of a module:
 *
 *   open   the library is mapped; its static initialisers run
 *   entry  troupe_module_entry() is called once and answers the table below
 *   build  build() is called any number of times, from one thread at a time or from several at once
 *   close  no call is running and none follows; the library is unmapped
 *
 * Four rules hold throughout.
 *
 * OWNERSHIP  What is pointed to belongs to the side that made it. Pointers passed into a call are borrowed until that
 *            call returns; nobody frees what the other side allocated. The table and all it points to live until close.
 * THREADS    Each function says when and where it may be called:
 *              [load]  by the thread that loads the module, before any build
 *              [any]   by any thread, several at once; the module keeps no state that calls share
 *              [call]  only by the thread that runs build(), only until that build() returns
 * ERRORS     A status says what kind, a text says why: what was expected, what was found, and for a configuration the key.
 *            No exception and no longjmp crosses the interface in either direction.
 * GROWTH     Each struct begins with its size in bytes as its author compiled it. Fields are only ever appended. A reader
 *            checks the size before it reads a field of a later minor version; absent fields mean what their comment
 *            says. A change that breaks this raises the major version, and both sides refuse each other politely.
 */
#ifndef TROUPE_MODULE_H
#define TROUPE_MODULE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TROUPE_ABI_MAJOR 1
#define TROUPE_ABI_MINOR 0

/* The module's one exported symbol carries this; everything else is built hidden. */
#if defined(__GNUC__)
#define TROUPE_EXPORT __attribute__((visibility("default")))
#else
#define TROUPE_EXPORT
#endif

/* What kind of failure. Troupe treats numbers that it does not know as TROUPE_FAILED. */
typedef int32_t troupe_status;
#define TROUPE_OK 0
#define TROUPE_BAD_CONFIG 1  /* config.json: a key is missing, mistyped or impossible; the text names it */
#define TROUPE_UNSUPPORTED 2 /* config.json is fine, but asks for a variant that this module does not build */
#define TROUPE_FAILED 3      /* a fault of the module: anything else */

/* Passed to build(). Lives until build() returns. */
typedef struct troupe_build_host {
  uint32_t struct_size; /* sizeof(troupe_build_host) as Troupe was compiled */

  /* Handed back to the functions below, unchanged. */
  void* context;

  /* [call] Gives the Program to Troupe, which copies the bytes. Exactly once per build that succeeds.
   * bytes: a finished FlatBuffer with root table Program and identifier "TRPG"; its start is aligned as the FlatBuffers
   * builder made it. Answers TROUPE_OK, or TROUPE_FAILED if the bytes cannot be taken (null, larger than 64 MiB, a second
   * call): build() then returns that status. Troupe verifies the Program after build() has returned. */
  troupe_status (*emit)(void* context, const uint8_t* bytes, size_t size);

  /* [call] Says why this build fails. kind: any status but TROUPE_OK. text: UTF-8, ends in a null; Troupe copies it.
   * The last call counts. Answers kind, so that a module may write: return host->fail(host->context, kind, "..."); */
  troupe_status (*fail)(void* context, troupe_status kind, const char* text);
} troupe_build_host;

/* What troupe_module_entry answers. No field may be null. */
typedef struct troupe_module {
  /* The first three fields stay where they are in every version to come. */
  uint32_t struct_size; /* sizeof(troupe_module) as the module was compiled */
  uint16_t abi_major;   /* TROUPE_ABI_MAJOR, likewise; Troupe refuses any other than its own */
  uint16_t abi_minor;   /* TROUPE_ABI_MINOR, likewise; newer and older ones of the same major work */

  const char* name;    /* of the module: "mixtral". Lower case, for file names and commands */
  const char* version; /* of the module: "1.2.0". For people and logs */
  const char* summary; /* one line for people */

  /* The names in config.json's "architectures" that this module serves, ended by a null pointer; at least one. */
  const char* const* architectures;

  /* [any] Builds the Program for one configuration.
   * config_json: the text of config.json, UTF-8, config_bytes long, not ended by a null; Troupe has checked that it is
   * JSON. host: see above. Returns TROUPE_OK after one emit, any other status after one fail. Two calls with the same text
   * emit the same Program. */
  troupe_status (*build)(const char* config_json, size_t config_bytes, const troupe_build_host* host);
} troupe_module;

/* [load] The one exported symbol. Never fails; answers the same table on each call. */
#define TROUPE_MODULE_ENTRY_NAME "troupe_module_entry"
typedef const troupe_module* (*troupe_module_entry_function)(void);
TROUPE_EXPORT const troupe_module* troupe_module_entry(void);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* TROUPE_MODULE_H */

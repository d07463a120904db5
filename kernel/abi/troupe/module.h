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
 *   run    if the module brings native ops: their functions are called while a model runs that uses them
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
 *              [exec]  by the thread that runs a model's steps, one call at a time for each model; several models may run
 *                      at once
 * ERRORS     A status says what kind, a text says why: what was expected, what was found, and for a configuration the key.
 *            No exception and no longjmp crosses the interface in either direction.
 * GROWTH     Each struct begins with its size in bytes as its author compiled it. Fields are only ever appended. A reader
 *            checks the size before it reads a field of a later minor version; absent fields mean what their comment
 *            says. A change that breaks this raises the major version, and both sides refuse each other politely.
 *            Structs that stand in arrays by value carry no size and are frozen: they never change.
 */
#ifndef TROUPE_MODULE_H
#define TROUPE_MODULE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TROUPE_ABI_MAJOR 1
#define TROUPE_ABI_MINOR 1

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

/* What a number is; as DType in program.fbs. */
typedef uint32_t troupe_dtype;
#define TROUPE_NONE 0 /* not known, or not said */
#define TROUPE_F32 1
#define TROUPE_BF16 2
#define TROUPE_F16 3
#define TROUPE_I32 4

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

/* ---- native ops: since 1.1 --------------------------------------------------------------------------------------
 *
 * An operation that Troupe does not have and the module brings along. A Program uses it by name and version (OpKind native).
 * Troupe schedules it like an op of its own: it is called once in each step for each use in the Program, for all
 * sequences of the step together.
 *
 * A step is ragged: T rows of S sequences stand one after another, chunks of prompts and single decoded tokens mixed, without
 * padding. A sequence comes in any number of chunks, in order. What the op must know of the rows before, it keeps in states:
 * numbers that belong to one sequence, are zero when the sequence begins, and come back in its next chunk as they were left.
 *
 * What comes out must not depend, bit for bit, on which other sequences are in the step, on how a sequence is cut into chunks, or
 * on how many threads there are: each number is computed by the same operations in the same order always.
 *
 * A body reads its inputs, weights and states, and writes its outputs, its states and its workspace; nothing else. It
 * opens no file, allocates little or nothing, and keeps nothing behind its return. Everything that could be wrong with a
 * use is told by shapes(), before the first step. */

/* How many dimensions a tensor may have. */
#define TROUPE_MAX_DIMENSIONS 4

/* What the first dimension of an op's inputs and outputs counts: the same for all of them. */
#define TROUPE_TOKENS 0 /* T, the rows of the step */
#define TROUPE_LOGIT_ROWS \
  1 /* R, the rows whose logits are wanted: then the op has no states and sees no sequences */

/* An input, output, weight or state as the op declares it. Frozen. */
typedef struct troupe_native_value {
  const char* name; /* for people: "dt". Printable ASCII without blanks */
  troupe_dtype
      dtype; /* inputs, outputs: TROUPE_F32 or TROUPE_I32; states: TROUPE_F32; weights: TROUPE_NONE */
  uint32_t is_optional; /* weights: 1 = a use may leave it out, and then all behind it; all others: 0 */
} troupe_native_value;

/* A tensor without gaps, row-major. Frozen. */
typedef struct troupe_tensor {
  troupe_dtype dtype;
  uint32_t rank;                         /* dimensions, at least 1 */
  uint64_t shape[TROUPE_MAX_DIMENSIONS]; /* beyond rank: 1 */
  void*
      data; /* aligned to 64 bytes; inputs are only read. Null in shapes() and workspace(), and for states: see the step */
} troupe_tensor;

/* A weight as the checkpoint stores it. Frozen. */
typedef struct troupe_weight {
  troupe_dtype
      dtype; /* TROUPE_F32, TROUPE_BF16 or TROUPE_F16; TROUPE_NONE in shapes(): only the checkpoint knows */
  uint32_t rank;                         /* 1 to 3 */
  uint64_t shape[TROUPE_MAX_DIMENSIONS]; /* as in the Program; beyond rank: 1 */
  /* rank 1 and 2: one pointer. Rank 3 [E, M, N]: E pointers to [M, N] each. Row-major, aligned to the element, little
   * endian. Null in shapes(). */
  const void* const* planes;
} troupe_weight;

/* A named number of a use: the Program's NativeAttrs.attributes. Frozen. */
typedef struct troupe_attribute {
  const char* name;
  double value; /* finite */
} troupe_attribute;

/* One use of an op in a Program. */
typedef struct troupe_native_use {
  uint32_t struct_size; /* sizeof(troupe_native_use) as Troupe was compiled */
  uint32_t rows_of;     /* TROUPE_TOKENS or TROUPE_LOGIT_ROWS */
  uint32_t input_count, output_count, weight_count, state_count, attribute_count;

  /* [rows, columns]. shape[0] is 0 in shapes() and workspace(): only the step knows. */
  const troupe_tensor* inputs;
  troupe_tensor* outputs;
  const troupe_weight* weights;
  const troupe_tensor* states;        /* shape: of one sequence, without a dimension for the sequences */
  const troupe_attribute* attributes; /* in the order of the Program; each name once */

  /* [any] Says why the call that got this use fails. text: UTF-8, ends in a null; Troupe copies it. Answers TROUPE_FAILED. */
  void* context;
  troupe_status (*fail)(void* context, const char* text);
} troupe_native_use;

/* Does a part [begin, end) of the work. worker: in [0, threads), two parts with the same worker never run at once. */
typedef void (*troupe_native_part)(void* part_context, uint64_t begin, uint64_t end, uint32_t worker);

/* What a use gets in one step. */
typedef struct troupe_native_step {
  uint32_t struct_size; /* sizeof(troupe_native_step) as Troupe was compiled */
  uint32_t threads;     /* workers of parallel_for, the caller among them; 1 for a CUDA body */
  uint64_t rows;        /* T, or R */
  uint32_t sequences;   /* S; 0 for an op on logit rows */

  /* [S + 1], ascending from 0 to T: sequence s has the rows [s] to [s + 1]. It may have none; then its states are not touched. */
  const uint32_t* sequence_rows;
  /* [S] position of each sequence's first row of this step, counted from the sequence's beginning. 0: it begins here, its
   * states are zeros. */
  const uint32_t* positions;
  /* [state_count][S] each sequence's states; float, row-major, aligned to 64 bytes. No two overlap. */
  float* const* const* states;
  /* As many bytes as workspace() asked for, aligned to 64; undefined at the beginning. Null if none were asked for. */
  void* workspace;

  /* [exec] Calls part() for parts that cover [0, count) once, on all threads, and returns when all are done. A part has
   * at least `grain` items, the last one perhaps fewer; where it is cut and who does it is not determined: results must
   * not depend on it. Parts neither call parallel_for nor fail. Null for a CUDA body. */
  void* context;
  void (*parallel_for)(void* context, uint64_t count, uint64_t grain, troupe_native_part part,
                       void* part_context);
} troupe_native_step;

/* What workspace() answers when it cannot tell. */
#define TROUPE_NO_WORKSPACE UINT64_MAX

typedef struct troupe_native_op {
  uint32_t struct_size; /* sizeof(troupe_native_op) as the module was compiled */
  uint32_t version;     /* of the op's meaning, from 1: a change of results or of operands needs a new one */
  const char*
      name; /* "selective_scan"; with the version unique in the module. Printable ASCII without blanks */
  const char* summary; /* one line for people */

  /* In the order in which a Program names them. May be null if there are none; at least one output. At most 32 of each. */
  const troupe_native_value* inputs;
  const troupe_native_value* outputs;
  const troupe_native_value* weights;
  const troupe_native_value* states;
  uint32_t input_count, output_count, weight_count, state_count;

  /* [any] Checks the shapes of inputs, weights and states and the attributes against each other, and fills in dtype, rank (2)
   * and shape[1] of all outputs. Numbers of operands and their dtypes are right already. Returns TROUPE_OK, or what
   * use->fail answers: the Program is then invalid, and the text tells people what was expected and what was found. */
  troupe_status (*shapes)(const troupe_native_use* use);

  /* [any] Bytes of workspace for a step of that many rows, sequences and threads; at least as many for more of them. Null = none
   * is ever needed. The use has passed shapes(). TROUPE_NO_WORKSPACE: it cannot be told; the reason is given by use->fail. */
  uint64_t (*workspace)(const troupe_native_use* use, uint64_t rows, uint32_t sequences, uint32_t threads);

  /* [exec] Computes one step on the CPU. All pointers are the host's. Returns TROUPE_OK; anything else, with a text by
   * use->fail, ends the step for all its sequences: they are computed again from their tokens. */
  troupe_status (*cpu)(const troupe_native_use* use, const troupe_native_step* step);

  /* [exec] The same on a CUDA device; null = the op has no such body, and the Program runs on the CPU only. Launches on
   * `stream`, a cudaStream_t of the current device, and does not wait. Structs and arrays of structs are the host's.
   * All that they point to is the device's: data, planes and what they point to, sequence_rows, positions, states and
   * what they point to, workspace. The launch may be captured into a graph and replayed with other contents at the same
   * addresses: what is launched depends on the use, on rows and on sequences alone, and sequences without rows, which
   * fill up a captured batch, are skipped. */
  troupe_status (*cuda)(const troupe_native_use* use, const troupe_native_step* step, void* stream);
} troupe_native_op;

/* ---- the module ---- */

/* What troupe_module_entry answers. No field of 1.0 may be null. */
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

  /* Since 1.1: the ops that the module brings along, ended by a null pointer; null or absent = none. A module with native
   * ops runs code in the process that serves, not only while it builds. At most 256. */
  const troupe_native_op* const* native_ops;
} troupe_module;

/* [load] The one exported symbol. Never fails; answers the same table on each call. */
#define TROUPE_MODULE_ENTRY_NAME "troupe_module_entry"
typedef const troupe_module* (*troupe_module_entry_function)(void);
TROUPE_EXPORT const troupe_module* troupe_module_entry(void);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* TROUPE_MODULE_H */

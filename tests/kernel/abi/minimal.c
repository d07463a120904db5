/* A complete module in plain C11: a "model" that answers with the embedding of the token it reads, so that the most likely
 * next token is the one most like the last. It needs the header, the schema and no library: the FlatBuffer is written by the
 * few lines in the middle. */
#include <stdlib.h>
#include <string.h>
#include <troupe/module.h>

/* ---- a FlatBuffer, written from its end to its start; a ref is the distance of a thing from the end ---- */

typedef uint32_t ref;
typedef struct writer {
  uint8_t bytes[4096];
  uint32_t used;
} writer;

static void push(writer* w, const void* bytes, uint32_t size) {
  w->used += size;
  memcpy(w->bytes + sizeof w->bytes - w->used, bytes, size);
}

/* Pads so that what begins after `coming` more bytes is aligned. */
static void align(writer* w, uint32_t alignment, uint32_t coming) {
  static const uint8_t zeros[8] = {0};
  push(w, zeros, (alignment - (w->used + coming) % alignment) % alignment);
}

static void push_u16(writer* w, uint32_t value) {
  const uint16_t number = (uint16_t)value;
  push(w, &number, 2);
}

static void push_u32(writer* w, uint32_t value) {
  push(w, &value, 4);
}

static void push_ref(writer* w, ref target) {
  push_u32(w, w->used + 4 - target);
}

static ref string(writer* w, const char* text) {
  const uint32_t size = (uint32_t)strlen(text);
  align(w, 4, size + 1);
  push(w, text, size + 1);
  push_u32(w, size);
  return w->used;
}

/* element_size 4 or 8, little endian */
static ref numbers(writer* w, const void* values, uint32_t count, uint32_t element_size) {
  align(w, 4, count * element_size);
  align(w, element_size, count * element_size);
  push(w, values, count * element_size);
  push_u32(w, count);
  return w->used;
}

static ref refs(writer* w, const ref* targets, uint32_t count) {
  align(w, 4, 4 * count);
  for (uint32_t i = count; i-- > 0;) push_ref(w, targets[i]);
  push_u32(w, count);
  return w->used;
}

/* A field of a table: its number in the schema, and a reference or a plain number of 1, 2 or 4 bytes. */
typedef struct field {
  uint32_t slot;
  uint32_t size; /* 0 = a reference */
  uint32_t value;
} field;

/* Fields in the order of their slots. */
static ref table(writer* w, const field* fields, uint32_t count) {
  ref at[16] = {0};
  align(w, 4, 0);
  const uint32_t end = w->used;
  const uint32_t slots = fields[count - 1].slot + 1;
  for (uint32_t i = count; i-- > 0;) {
    const uint32_t size = fields[i].size == 0 ? 4 : fields[i].size;
    align(w, size, size);
    if (fields[i].size == 0)
      push_ref(w, fields[i].value);
    else
      push(w, &fields[i].value, size);
    at[fields[i].slot] = w->used;
  }
  align(w, 4, 4);
  const uint32_t vtable_size = 4 + 2 * slots;
  push_u32(w, vtable_size); /* the vtable stands directly before its table */
  const ref start = w->used;
  for (uint32_t slot = slots; slot-- > 0;) push_u16(w, at[slot] == 0 ? 0 : start - at[slot]);
  push_u16(w, start - end);
  push_u16(w, vtable_size);
  return start;
}

/* ---- the Program: numbers of fields as in program.fbs ---- */

static ref tensor(writer* w, uint32_t rows, uint64_t columns) {
  const field fields[] = {{0, 1, rows}, {1, 0, numbers(w, &columns, 1, 8)}};
  return table(w, fields, 2);
}

static ref op(writer* w, uint32_t kind, const uint32_t* input, uint32_t output, const uint32_t* weight) {
  const ref inputs = numbers(w, input, input != NULL ? 1 : 0, 4);
  const ref outputs = numbers(w, &output, 1, 4);
  const ref weights = numbers(w, weight, weight != NULL ? 1 : 0, 4);
  const field fields[] = {{0, 2, kind}, {1, 0, inputs}, {2, 0, outputs}, {3, 0, weights}};
  return table(w, fields, 4);
}

static ref weight(writer* w, uint32_t vocabulary, uint32_t hidden) {
  const uint64_t shape[] = {vocabulary, hidden};
  const field source[] = {{0, 0, string(w, "embedding.weight")}};
  const ref sources[] = {table(w, source, 1)};
  const field spelling[] = {{1, 0, refs(w, sources, 1)}};
  const ref spellings[] = {table(w, spelling, 1)};
  const ref name = string(w, "embedding.weight");
  const field fields[] = {
      {0, 0, name}, {1, 0, numbers(w, shape, 2, 8)}, {2, 1, 1}, {3, 0, refs(w, spellings, 1)}};
  return table(w, fields, 4);
}

static void program(writer* w, uint32_t vocabulary, uint32_t hidden) {
  const uint32_t first = 0, second = 1;
  const ref weights[] = {weight(w, vocabulary, hidden)};
  const ref tensors[] = {tensor(w, 0, hidden), tensor(w, 1, hidden), tensor(w, 1, vocabulary)};
  const ref ops[] = {op(w, 1 /* embed */, NULL, 0, &first), op(w, 9 /* select_rows */, &first, 1, NULL),
                     op(w, 2 /* linear */, &second, 2, &first)};
  const field facts[] = {
      {0, 0, string(w, "MinimalForCausalLM")}, {1, 4, vocabulary}, {2, 4, hidden}, {3, 4, 1}, {4, 4, 1024}};
  const field fields[] = {
      {2, 0, table(w, facts, 5)},  {3, 0, refs(w, weights, 1)}, {4, 0, refs(w, NULL, 0)}, /* no caches */
      {5, 0, refs(w, tensors, 3)}, {6, 0, refs(w, ops, 3)},     {7, 4, 2 /* logits */}};
  const ref root = table(w, fields, 6);
  align(w, 8, 8);
  push(w, "TRPG", 4);
  push_ref(w, root);
}

/* ---- the module ---- */

/* The number behind "key": in the text; 0 if there is none. Good for flat files like this module's. */
static uint32_t number_of(const char* text, size_t bytes, const char* quoted_key) {
  const size_t key_bytes = strlen(quoted_key);
  for (size_t i = 0; i + key_bytes < bytes; ++i)
    if (memcmp(text + i, quoted_key, key_bytes) == 0) {
      uint32_t number = 0;
      for (i += key_bytes; i < bytes && (text[i] == ':' || text[i] == ' '); ++i) continue;
      for (; i < bytes && text[i] >= '0' && text[i] <= '9' && number < 100000000; ++i)
        number = 10 * number + (uint32_t)(text[i] - '0');
      return number;
    }
  return 0;
}

static troupe_status build(const char* config_json, size_t config_bytes, const troupe_build_host* host) {
  const uint32_t vocabulary = number_of(config_json, config_bytes, "\"vocab_size\"");
  const uint32_t hidden = number_of(config_json, config_bytes, "\"hidden_size\"");
  if (vocabulary == 0)
    return host->fail(host->context, TROUPE_BAD_CONFIG, "vocab_size: expected a number above 0");
  if (hidden == 0)
    return host->fail(host->context, TROUPE_BAD_CONFIG, "hidden_size: expected a number above 0");
  writer* w = calloc(1, sizeof *w);
  if (w == NULL) return host->fail(host->context, TROUPE_FAILED, "out of memory");
  program(w, vocabulary, hidden);
  const troupe_status status = host->emit(host->context, w->bytes + sizeof w->bytes - w->used, w->used);
  free(w);
  return status;
}

const troupe_module* troupe_module_entry(void) {
  static const char* const architectures[] = {"MinimalForCausalLM", NULL};
  static const troupe_module module = {.struct_size = sizeof(troupe_module),
                                       .abi_major = TROUPE_ABI_MAJOR,
                                       .abi_minor = TROUPE_ABI_MINOR,
                                       .name = "minimal",
                                       .version = "1.0.0",
                                       .summary = "Answers with the token most like the last one",
                                       .architectures = architectures,
                                       .build = build};
  return &module;
}

/* A module that is right, or wrong in the one way that the build defines. */
#include <stddef.h>
#include <troupe/module.h>

static troupe_status build(const char* config_json, size_t config_bytes, const troupe_build_host* host) {
  static const uint8_t garbage[64] = {1, 2, 3};
  (void)config_json;
  (void)config_bytes;
#if defined(EMITS_TWICE)
  host->emit(host->context, garbage, sizeof garbage);
  return host->emit(host->context, garbage, sizeof garbage);
#elif defined(EMITS_NULL)
  return host->emit(host->context, NULL, 0);
#elif defined(EMITS_GARBAGE)
  return host->emit(host->context, garbage, sizeof garbage);
#elif defined(FAILS_SILENTLY)
  return TROUPE_FAILED;
#elif defined(UNKNOWN_STATUS)
  return host->fail(host->context, 77, "something new");
#elif defined(FAILS_BUT_SAYS_OK)
  host->fail(host->context, TROUPE_BAD_CONFIG, "some_key: wrong");
  return TROUPE_OK;
#elif defined(UNSUPPORTED)
  return host->fail(host->context, TROUPE_UNSUPPORTED, "some_key: not built here");
#else
  (void)garbage;
  (void)host;
  return TROUPE_OK; /* emits nothing */
#endif
}

static troupe_status shapes(const troupe_native_use* use) {
  return use->fail(use->context, "never right");
}

static troupe_status cpu(const troupe_native_use* use, const troupe_native_step* step) {
  (void)step;
  return use->fail(use->context, "never right");
}

static troupe_status cuda(const troupe_native_use* use, const troupe_native_step* step, void* stream) {
  (void)stream;
  return cpu(use, step);
}

static const troupe_native_op* const* native_ops(void) {
  static troupe_native_value inputs[] = {{"x", TROUPE_F32, 0}};
  static troupe_native_value outputs[] = {{"y", TROUPE_F32, 0}};
  static troupe_native_value weights[] = {{"w", TROUPE_NONE, 0}, {"bias", TROUPE_NONE, 1}};
  static troupe_native_value states[] = {{"sum", TROUPE_F32, 0}};
  static troupe_native_op op = {sizeof(troupe_native_op),
                                3,
                                "op",
                                "For tests",
                                inputs,
                                outputs,
                                weights,
                                states,
                                1,
                                1,
                                2,
                                1,
                                shapes,
                                NULL,
                                cpu,
                                cuda};
  static const troupe_native_op* list[] = {&op, NULL, NULL};
  (void)list;
#if defined(OP_SMALL)
  op.struct_size = 40;
#elif defined(OP_WITHOUT_NAME)
  op.name = "a b";
#elif defined(OP_WITHOUT_VERSION)
  op.version = 0;
#elif defined(OP_WITHOUT_SUMMARY)
  op.summary = "";
#elif defined(OP_WITHOUT_SHAPES)
  op.shapes = NULL;
#elif defined(OP_WITHOUT_CPU)
  op.cpu = NULL;
#elif defined(OP_WITHOUT_OUTPUT)
  op.output_count = 0;
#elif defined(OP_WITH_NULL_INPUTS)
  op.inputs = NULL;
#elif defined(OP_WITH_MANY_STATES)
  op.state_count = 33;
#elif defined(OP_WITH_BF16_INPUT)
  inputs[0].dtype = TROUPE_BF16;
#elif defined(OP_WITH_OPTIONAL_STATE)
  states[0].is_optional = 1;
#elif defined(OP_WITH_OPTIONAL_FIRST)
  weights[0].is_optional = 1;
  weights[1].is_optional = 0;
#elif defined(OP_TWICE)
  list[1] = &op;
#elif !defined(WITH_OPS)
  return NULL;
#endif
  return list;
}

const troupe_module* troupe_module_entry(void) {
  static const char* const architectures[] = {"TableForCausalLM", NULL};
  static troupe_module module = {sizeof(troupe_module),
                                 TROUPE_ABI_MAJOR,
                                 TROUPE_ABI_MINOR,
                                 "table",
                                 "1.0.0",
                                 "For tests",
                                 architectures,
                                 build,
                                 NULL};
  module.native_ops = native_ops();
#if defined(WRONG_MAJOR)
  module.abi_major = 99;
#elif defined(NEWER_MINOR)
  module.abi_minor = 99;
  module.struct_size = sizeof(troupe_module) + 64;
#elif defined(MINOR_0)
  module.abi_minor = 0;
  module.struct_size = offsetof(troupe_module, native_ops);
  module.native_ops = (const troupe_native_op* const*)1; /* behind its end: must not be read */
#elif defined(SMALL_TABLE)
  module.struct_size = 16;
#elif defined(NULL_TABLE)
  return NULL;
#elif defined(NO_NAME)
  module.name = NULL;
#elif defined(NO_VERSION)
  module.version = "";
#elif defined(NO_SUMMARY)
  module.summary = NULL;
#elif defined(NO_ARCHITECTURES)
  module.architectures = architectures + 1;
#elif defined(NO_BUILD)
  module.build = NULL;
#endif
  return &module;
}

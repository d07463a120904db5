#include "kernel/modules/build.hpp"

#include <exception>
#include <vector>

#include "kernel/base/limits.hpp"

namespace troupe::modules {

namespace {

// What a module said during one build.
struct answer {
  std::vector<std::uint8_t> bytes;
  unsigned emits = 0;
  troupe_status failure = TROUPE_OK;
  std::string text;
};

// Called from the module: nothing may escape, not even for want of memory.
troupe_status on_emit(void* context, const std::uint8_t* bytes, std::size_t size) noexcept {
  auto& a = *static_cast<answer*>(context);
  try {
    const char* problem = ++a.emits > 1                 ? "emitted more than one Program"
                          : bytes == nullptr            ? "emitted null"
                          : size > max_flatbuffer_bytes ? "emitted more than 64 MiB"
                                                        : nullptr;
    if (problem == nullptr) {
      a.bytes.assign(bytes, bytes + size);
      return TROUPE_OK;
    }
    a.failure = TROUPE_FAILED;
    a.text = problem;
  } catch (const std::exception&) {
    a.failure = TROUPE_FAILED;  // without a text
  }
  return TROUPE_FAILED;
}

troupe_status on_fail(void* context, troupe_status kind, const char* text) noexcept {
  auto& a = *static_cast<answer*>(context);
  a.failure = kind == TROUPE_OK ? TROUPE_FAILED : kind;
  try {
    a.text = text == nullptr ? "" : text;
  } catch (const std::exception&) {
    a.text.clear();
  }
  return a.failure;
}

error to_error(troupe_status status, const std::string& who, const std::string& text) {
  const auto why = text.empty() ? "without a reason" : text;
  switch (status) {
    case TROUPE_BAD_CONFIG:
      return {error_code::bad_checkpoint, fmt::format("config.json: {} ({})", why, who)};
    case TROUPE_UNSUPPORTED:
      return {error_code::unsupported, fmt::format("config.json: {} ({})", why, who)};
    default:
      return {error_code::bad_module, fmt::format("{}: the build failed: {}", who, why)};
  }
}

}  // namespace

result<program::verified_program> run_build(const troupe_module& table, const std::string& who,
                                            std::string_view config_json, const program::native_ops& ops) {
  answer a;
  const troupe_build_host host = {sizeof(troupe_build_host), &a, &on_emit, &on_fail};
  troupe_status status = TROUPE_OK;
  try {
    status = table.build(config_json.data(), config_json.size(), &host);
  } catch (const std::exception& e) {
    return fail(error_code::bad_module, "{}: an exception crossed the interface: {}", who, e.what());
  } catch (...) {
    return fail(error_code::bad_module, "{}: an exception crossed the interface", who);
  }
  if (status == TROUPE_OK) status = a.failure;  // a refused emit or a fail() that the module kept to itself
  if (status != TROUPE_OK) return fail(to_error(status, who, a.text));
  if (a.emits == 0)
    return fail(error_code::bad_module, "{}: the build succeeded but emitted no Program", who);
  auto program = program::verify(a.bytes);
  if (!program) return fail(program.error().code, "{}: {}", who, program.error().text);
  if (auto ok = program::check_native_ops(**program, ops); !ok)
    return fail(ok.error().code, "{}: {}", who, ok.error().text);
  return program;
}

}  // namespace troupe::modules

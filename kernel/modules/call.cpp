#include "kernel/modules/call.hpp"

#include <cstddef>
#include <exception>

#include "kernel/base/limits.hpp"

namespace troupe::modules {

namespace {

constexpr std::size_t max_architectures = 256;

// What the table had in version 1.0, and what every later 1.x still begins with: all that is read without a look at its size.
constexpr std::size_t table_bytes_1_0 = offsetof(troupe_module, build) + sizeof(troupe_module::build);

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

error to_error(troupe_status status, const std::string& text) {
  const auto why = text.empty() ? "without a reason" : text;
  switch (status) {
    case TROUPE_BAD_CONFIG:
      return {error_code::bad_checkpoint, why};
    case TROUPE_UNSUPPORTED:
      return {error_code::unsupported, why};
    default:
      return {error_code::bad_module, "the build failed: " + why};
  }
}

std::string field_problem(const troupe_module& table) {
  const auto is_empty = [](const char* text) { return text == nullptr || *text == '\0'; };
  if (is_empty(table.name)) return "name";
  if (is_empty(table.version)) return "version";
  if (is_empty(table.summary)) return "summary";
  if (table.architectures == nullptr || table.architectures[0] == nullptr) return "architectures";
  if (table.build == nullptr) return "build";
  return {};
}

}  // namespace

result<void> check_table(const troupe_module* table) {
  if (table == nullptr) return fail(error_code::bad_module, "{} answered null", TROUPE_MODULE_ENTRY_NAME);
  if (table->abi_major != TROUPE_ABI_MAJOR)
    return fail(error_code::bad_module,
                "built for module interface {}.{}, this Troupe speaks {}.{}: rebuild the module against this "
                "Troupe's <troupe/module.h>, or use a Troupe of the module's generation",
                table->abi_major, table->abi_minor, TROUPE_ABI_MAJOR, TROUPE_ABI_MINOR);
  if (table->struct_size < table_bytes_1_0)
    return fail(error_code::bad_module, "its table has {} bytes, expected at least {}: rebuild the module",
                table->struct_size, table_bytes_1_0);
  if (const auto field = field_problem(*table); !field.empty())
    return fail(error_code::bad_module, "the field {} of its table is empty", field);
  std::size_t count = 0;
  while (count <= max_architectures && table->architectures[count] != nullptr) ++count;
  if (count > max_architectures)
    return fail(error_code::bad_module, "architectures: more than {}: is the list ended by null?",
                max_architectures);
  return {};
}

result<std::vector<std::uint8_t>> call_build(const troupe_module& table, std::string_view config_json) {
  answer a;
  const troupe_build_host host = {sizeof(troupe_build_host), &a, &on_emit, &on_fail};
  troupe_status status = TROUPE_OK;
  try {
    status = table.build(config_json.data(), config_json.size(), &host);
  } catch (const std::exception& e) {
    return fail(error_code::bad_module, "an exception crossed the interface: {}", e.what());
  } catch (...) {
    return fail(error_code::bad_module, "an exception crossed the interface");
  }
  if (status == TROUPE_OK) status = a.failure;  // a refused emit or a fail() that the module kept to itself
  if (status != TROUPE_OK) return fail(to_error(status, a.text));
  if (a.emits == 0) return fail(error_code::bad_module, "the build succeeded but emitted no Program");
  return std::move(a.bytes);
}

}  // namespace troupe::modules

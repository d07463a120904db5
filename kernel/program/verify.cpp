// verify(): structure first (FlatBuffers), then meaning, part by part.
#include "kernel/base/limits.hpp"
#include "kernel/program/check.hpp"
#include "kernel/program/program.hpp"

namespace troupe::program {

namespace {

constexpr std::uint16_t known_major = 1;
constexpr std::uint16_t known_minor = 1;

// The FlatBuffers verifier aligns a vector's length, not its elements: 8-byte elements may stand at a multiple of 4.
void check_alignment(const char* what, const flatbuffers::Vector<std::uint64_t>* vector) {
  if (vector != nullptr && reinterpret_cast<std::uintptr_t>(vector->Data()) % alignof(std::uint64_t) != 0)
    refuse("program", "not a valid FlatBuffer: the elements of {} are not aligned", what);
}

void check_alignment(const Program& program) {
  for (const auto* tensor : *program.tensors()) check_alignment("a tensor's shape", tensor->shape());
  for (const auto* cache : *program.caches()) check_alignment("a cache's shape", cache->shape());
  for (const auto* weight : *program.weights()) {
    check_alignment("a weight's shape", weight->shape());
    for (const auto* spelling : *weight->spellings())
      for (const auto* source : *spelling->sources())
        check_alignment("a source's reshape", source->reshape());
  }
}

void check_structure(std::span<const std::uint8_t> bytes) {
  if (bytes.size() < 8 || bytes.size() > max_flatbuffer_bytes)
    refuse("program", "expected 8 to {} bytes, found {}", max_flatbuffer_bytes, bytes.size());
  if (!ProgramBufferHasIdentifier(bytes.data()))
    refuse("program", "expected a FlatBuffer with the identifier {}, found other bytes", ProgramIdentifier());
  flatbuffers::Verifier verifier(bytes.data(), bytes.size(), 16, 8 * max_count);
  if (!VerifyProgramBuffer(verifier))
    refuse("program", "not a valid FlatBuffer of this schema ({} bytes)", bytes.size());
}

void check_version(const Program& program) {
  if (program.version_major() != known_major || program.version_minor() > known_minor)
    refuse("program",
           "expected version {}.{} or older of the same major, found {}.{}: rebuild the module, or update "
           "Troupe",
           known_major, known_minor, program.version_major(), program.version_minor());
}

void check_counts(const Program& program) {
  const auto at_most = [](const char* what, std::uint32_t found, std::uint32_t limit) {
    if (found > limit) refuse("program", "expected at most {} {}, found {}", limit, what, found);
  };
  at_most("weights", program.weights()->size(), max_count);
  at_most("caches", program.caches()->size(), 64);
  at_most("tensors", program.tensors()->size(), max_count);
  at_most("ops", program.ops()->size(), max_count);
  at_most("probes", size(program.probes()), max_count);
  if (program.ops()->size() == 0) refuse("program", "expected at least one op, found none");
}

}  // namespace

result<verified_program> verify(std::span<const std::uint8_t> bytes) {
  auto copy = std::make_shared<const std::vector<std::uint8_t>>(bytes.begin(), bytes.end());
  try {
    check_structure(*copy);
    const Program& program = *GetProgram(copy->data());
    check_version(program);
    check_counts(program);
    check_visits(program, copy->size());
    check_alignment(program);
    check_facts(program);
    check_weights(program);
    check_caches(program);
    check_tensors(program);
    check_ops(program);
  } catch (const refusal& why) {
    return fail(error_code::bad_program, "{}", why.text);
  }
  return verified_program(std::move(copy));
}

}  // namespace troupe::program

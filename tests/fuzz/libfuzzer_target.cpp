// libFuzzer's entry points. Built where the compiler is clang; scripts/fuzz runs it.
#include <cstring>

#include "tests/fuzz/program_mutator.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  troupe::fuzz::check({data, size});
  return 0;
}

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t most);

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t most,
                                               unsigned int seed) {
  std::mt19937_64 random(seed);
  if (seed % 8 == 0) return LLVMFuzzerMutate(data, size, most);
  const auto from = size < 16 ? troupe::fuzz::seed_program() : troupe::fuzz::bytes(data, data + size);
  const auto changed = troupe::fuzz::mutate(from, random, most);
  std::memcpy(data, changed.data(), changed.size());
  return changed.size();
}

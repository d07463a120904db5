#include "sandbox/conformance/random_weights.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <bit>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <functional>
#include <numeric>
#include <random>
#include <string>
#include <vector>

namespace troupe::conformance {

namespace {

namespace fs = std::filesystem;

std::uint64_t elements(const program::Weight& w) {
  return std::accumulate(w.shape()->begin(), w.shape()->end(), std::uint64_t{1}, std::multiplies<>());
}

bool is_vector(const program::Weight& w) {
  return w.shape()->size() == 1;
}

// {"name":{"dtype":"BF16","shape":[4,8],"data_offsets":[0,64]},...}
std::string header_of(const program::Program& program) {
  std::string header = "{";
  std::uint64_t begin = 0;
  for (const auto* w : *program.weights()) {
    const std::uint64_t end = begin + elements(*w) * (is_vector(*w) ? 4 : 2);
    header += fmt::format(R"({}"{}":{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})",
                          header.size() > 1 ? "," : "", w->name()->str(), is_vector(*w) ? "F32" : "BF16",
                          fmt::join(w->shape()->begin(), w->shape()->end(), ","), begin, end);
    begin = end;
  }
  header += "}";
  header.append((8 - header.size() % 8) % 8, ' ');
  return header;
}

// The generator's own numbers, not a distribution's: the same on every standard library.
float uniform(std::mt19937_64& random) {
  return static_cast<float>(random() >> 40) / static_cast<float>(1u << 23) - 1.0F;  // [-1, 1)
}

void write_weight(std::ofstream& out, const program::Weight& w, std::mt19937_64& random) {
  const auto columns = static_cast<float>(w.shape()->Get(w.shape()->size() - 1));
  const float spread = is_vector(w) ? 0.1F : std::sqrt(3.0F / columns);
  const float centre = w.role() == program::WeightRole::norm ? 1.0F : 0.0F;
  for (std::uint64_t i = 0; i < elements(w); ++i) {
    const float value = centre + spread * uniform(random);
    const auto bits = std::bit_cast<std::uint32_t>(value);
    const auto upper = static_cast<std::uint16_t>(bits >> 16);
    if (is_vector(w))
      out.write(reinterpret_cast<const char*>(&bits), sizeof bits);
    else
      out.write(reinterpret_cast<const char*>(&upper), sizeof upper);
  }
}

}  // namespace

result<program::verified_program> with_plain_weights(const program::Program& program) {
  program::ProgramT changed;
  program.UnPackTo(&changed);
  for (auto& w : changed.weights) {
    auto source = std::make_unique<program::SourceT>();
    source->tensor = w->name;
    auto spelling = std::make_unique<program::SpellingT>();
    spelling->sources.push_back(std::move(source));
    w->spellings.clear();
    w->spellings.push_back(std::move(spelling));
  }
  flatbuffers::FlatBufferBuilder builder;
  program::FinishProgramBuffer(builder, program::Program::Pack(builder, &changed));
  return program::verify({builder.GetBufferPointer(), builder.GetSize()});
}

result<std::shared_ptr<const checkpoint::weights>> random_weights(const program::Program& program,
                                                                  const fs::path& folder,
                                                                  std::uint64_t seed) {
  const fs::path file = folder / "model.safetensors";
  {
    std::ofstream out(file, std::ios::binary);
    const std::string header = header_of(program);
    const std::uint64_t length = header.size();
    out.write(reinterpret_cast<const char*>(&length), sizeof length);
    out << header;
    std::mt19937_64 random(seed);
    for (const auto* w : *program.weights()) write_weight(out, *w, random);
    out.close();
    if (!out)
      return fail(error_code::not_found, "{}: cannot be written: {}", file.string(), std::strerror(errno));
  }
  return checkpoint::weights::open(folder);
}

}  // namespace troupe::conformance

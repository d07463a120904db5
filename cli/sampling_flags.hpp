// The options that generate and chat share: how tokens are chosen and when generation ends.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <troupe/client.hpp>
#include <vector>

#include "kernel/base/result.hpp"

namespace CLI {
class App;
}

namespace troupe::cli {

// What is absent was not given. Ranges are the server's to check.
struct sampling_flags {
  std::optional<float> temperature, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty;
  std::optional<std::uint32_t> top_k;
  std::optional<std::uint64_t> seed;
  std::vector<std::string> logit_bias;  // "id=bias"
  std::uint32_t max_tokens = 0;
  std::uint32_t min_tokens = 0;
  std::vector<std::string> stop;  // \n, \t and \\ are understood
  std::vector<std::int32_t> stop_ids;
  bool ignore_eos = false;
  bool include_stop = false;
};

void add_sampling_flags(CLI::App& command, sampling_flags& flags);

// Nothing if no sampling option was given: the server then does as the checkpoint recommends. Error: invalid_request
// (a bias that is not "id=bias").
result<std::optional<client::sampling_options>> sampling_of(const sampling_flags& flags);
client::stop_conditions stop_of(const sampling_flags& flags);

// Changes one value by its name with - or _ ("top-p", "max_tokens"); an empty value takes it back. Errors:
// invalid_request: unknown name (with the nearest), or a value that is no number.
result<void> set_sampling(sampling_flags& flags, std::string_view name, std::string_view value);

// "temperature 0.7, max_tokens 100"; "as the checkpoint recommends" if nothing is set.
std::string describe(const sampling_flags& flags);

}  // namespace troupe::cli

#include "actors/server/probes.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

#include "kernel/program/native_ops.hpp"
#include "sandbox/conformance/model_runner.hpp"

namespace troupe {

namespace {

using check::model_runner;

constexpr std::array<std::string_view, 3> prompts = {
    "The lighthouse keeper counted the ships, one by one, until the fog had taken the last of them.",
    "def mean(numbers):\n    return sum(numbers) / len(numbers)\n\nprint(mean([1, 2, 3",
    "1. Wash the apples. 2. Cut them into thin slices. 3."};
constexpr std::size_t decoded = 8;  // tokens behind each prompt
constexpr std::size_t longest = 48;

std::vector<std::int32_t> ids_of(const prepared_model& m, std::string_view text) {
  auto ids = m.tokenizer->encode(text, true);
  if (ids.size() > longest) ids.resize(longest);
  if (ids.empty()) ids.push_back(0);
  return ids;
}

result<std::unique_ptr<model_runner>> open(const prepared_model& m, const probe_device& device,
                                           const std::shared_ptr<const checkpoint::weights>& files) {
  check::runner_options o;
  o.library = device.library;
  o.int8 = device.int8;
  o.threads = 1;
  o.cache_tokens = prompts.size() * (longest + decoded);
  if (m.module) {
    auto native = m.module->native_ops();
    if (!native) return fail(std::move(native.error()));
    o.native_ops = std::move(*native);
  }
  return model_runner::open(m.program, files, o);
}

class comparison {
 public:
  comparison(model_runner& before, model_runner& after) : before_(before), after_(after) {}

  // The tokens of one sequence, on both. Answers the token that the version before thinks most likely behind them.
  result<std::int32_t> step(std::size_t sequence, std::size_t position,
                            std::span<const std::int32_t> tokens) {
    model_runner::piece p{sequence, tokens, {}};
    for (std::uint32_t i = 0; i < tokens.size(); ++i) p.wanted.push_back(i);
    if (auto ran = before_.run({&p, 1}); !ran) return fail(std::move(ran.error()));
    if (auto ran = after_.run({&p, 1}); !ran) return fail(std::move(ran.error()));
    if (auto ok = compare(before_.logits(tokens.size()), after_.logits(tokens.size())); !ok)
      return fail(std::move(ok.error()));
    const auto a = before_.greedy(tokens.size()), b = after_.greedy(tokens.size());
    for (std::size_t i = 0; i < a.size(); ++i)
      if (a[i] != b[i] && !found.first_other_token)
        found.first_other_token = {sequence, position + i, a[i], b[i]};
    found.logit_rows += tokens.size();
    return a.back();
  }

  probe_outcome found;

 private:
  result<void> compare(const std::vector<float>& a, const std::vector<float>& b) {
    for (std::size_t i = 0; i < a.size(); ++i) {
      if (!std::isfinite(b[i]))
        return fail(
            error_code::bad_checkpoint,
            "on a probe prompt the logit of token {} is {}: a weight is damaged, or the module computes "
            "something else",
            i % after_.vocabulary(), b[i]);
      found.largest_difference =
          std::max(found.largest_difference, std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
    }
    found.same_bits = found.same_bits && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
    return {};
  }

  model_runner& before_;
  model_runner& after_;
};

}  // namespace

result<probe_outcome> run_probes(const prepared_model& before, const prepared_model& after,
                                 const probe_device& device) {
  auto files = checkpoint::weights::open(before.checkpoint.folder);
  if (!files) return fail(std::move(files.error()));
  auto new_files = after.checkpoint.folder == before.checkpoint.folder
                       ? files
                       : checkpoint::weights::open(after.checkpoint.folder);
  if (!new_files) return fail(std::move(new_files.error()));
  auto a = open(before, device, *files);
  if (!a) return fail(std::move(a.error()));
  auto b = open(after, device, *new_files);
  if (!b) return fail(std::move(b.error()));
  comparison both(**a, **b);
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    const auto ids = ids_of(before, prompts[i]);
    auto next = both.step(i, 0, ids);
    for (std::size_t n = 0; next && n < decoded; ++n) {
      const std::int32_t token = *next;
      next = both.step(i, ids.size() + n, {&token, 1});
    }
    if (!next) return fail(std::move(next.error()));
  }
  return both.found;
}

}  // namespace troupe

#include <fmt/format.h>

#include <algorithm>

#include "cli/check/model_groups.hpp"

namespace troupe::check {
namespace {

constexpr std::size_t longest_prompt = 256;
constexpr std::size_t steps = 24;

// What one prompt must give: the logits behind its prompt and behind each of the reference's next tokens.
result<std::vector<std::vector<float>>> run_alone(model_runner& runner, const prompt_case& p,
                                                  std::size_t count) {
  std::vector<std::vector<float>> out;
  runner.reset();
  if (auto ran = runner.prefill(0, p.ids); !ran) return fail(ran.error());
  out.push_back(runner.logits(1));
  for (std::size_t i = 0; i < count; ++i) {
    if (auto ran = runner.prefill(0, {&p.greedy_ids[i], 1}); !ran) return fail(ran.error());
    out.push_back(runner.logits(1));
  }
  return out;
}

struct member {
  const prompt_case* prompt = nullptr;
  std::size_t joins = 0;  // step at which its prompt is fed
  std::vector<std::vector<float>> alone;
  double largest = 0;
};

// Prompt m joins at step m / 2; from then on it is fed one token of its continuation in every step.
result<void> run_together(model_runner& runner, std::vector<member>& members) {
  runner.reset();
  const std::size_t last = members.back().joins + steps;
  for (std::size_t step = 0; step <= last; ++step) {
    std::vector<model_runner::piece> pieces;
    std::vector<std::pair<member*, std::size_t>> rows;
    for (std::size_t m = 0; m < members.size(); ++m) {
      member& one = members[m];
      if (step < one.joins || step - one.joins >= one.alone.size()) continue;
      const std::size_t i = step - one.joins;
      const auto tokens =
          i == 0 ? std::span(one.prompt->ids) : std::span(one.prompt->greedy_ids).subspan(i - 1, 1);
      pieces.push_back({m, tokens, {static_cast<std::uint32_t>(tokens.size() - 1)}});
      rows.emplace_back(&one, i);
    }
    if (pieces.empty()) break;
    if (auto ran = runner.run(pieces); !ran) return ran;
    const auto logits = runner.logits(rows.size());
    for (std::size_t r = 0; r < rows.size(); ++r) {
      const auto& expected = rows[r].first->alone[rows[r].second];
      for (std::size_t id = 0; id < expected.size(); ++id) {
        const float found = logits[r * expected.size() + id];
        if (found != expected[id]) {
          const double difference = std::abs(static_cast<double>(found) - expected[id]);
          rows[r].first->largest = std::max(rows[r].first->largest, difference > 0 ? difference : 1e30);
        }
      }
    }
  }
  return {};
}

}  // namespace

group check_batch(const model_inputs& in) {
  group out("batch", in.allowed.batch);
  out.note(in.allowed.batch == 0 ? "short prompts together, bit for bit as alone"
                                 : "short prompts together, and alone");
  std::vector<member> members;
  for (const prompt_case& p : in.prompts) {
    if (p.ids.size() > longest_prompt) continue;
    auto alone = run_alone(in.runner, p, std::min(steps, p.greedy_ids.size()));
    if (!alone) {
      out.fail(p.id, alone.error().text);
      return out;
    }
    members.push_back({&p, members.size() / 2, std::move(*alone), 0});
    in.report(out.name(), members.size(), in.prompts.size());
  }
  if (members.empty()) return out;
  if (auto ran = run_together(in.runner, members); !ran) {
    out.fail("all prompts together", ran.error().text);
    return out;
  }
  for (const member& m : members)
    out.add(m.prompt->id,
            out.within(m.largest)
                ? ""
                : fmt::format("logits differ by up to {:.2e} from those of the prompt alone", m.largest));
  return out;
}

}  // namespace troupe::check

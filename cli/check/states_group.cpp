#include <fmt/format.h>

#include <cmath>
#include <numeric>
#include <set>

#include "cli/check/model_groups.hpp"

namespace troupe::check {
namespace {

// The Program's own names of its probes.
std::set<std::string, std::less<>> probe_names(const program::Program& program) {
  std::set<std::string, std::less<>> out;
  if (program.probes() != nullptr)
    for (const program::Probe* p : *program.probes()) out.insert(p->name()->str());
  return out;
}

std::string compare(std::span<const float> expected, std::span<const float> found, group& g) {
  if (expected.size() != found.size())
    return fmt::format("expected {} numbers, found {}", expected.size(), found.size());
  std::string problem;
  for (std::size_t i = 0; i < expected.size(); ++i)
    if (!g.within(std::abs(static_cast<double>(found[i]) - expected[i])) && problem.empty())
      problem = fmt::format("number {}: expected {:.6f}, found {:.6f}", i, expected[i], found[i]);
  return problem;
}

// One recorded prompt: which tensors of the file belong to it, and the probes that answer them.
struct recorded {
  const prompt_case* prompt = nullptr;
  std::vector<ops::probe_request> probes;
  std::vector<std::span<const float>> expected;  // of each probe
  std::span<const float> logits;
};

struct groups {
  group hidden, router, logits;
};

recorded collect(const prompt_case& p, const state_tensors& states) {
  recorded out;
  out.prompt = &p;
  const std::string prefix = p.id + ".";
  for (auto it = states.lower_bound(prefix); it != states.end() && it->first.starts_with(prefix); ++it) {
    const std::string name = it->first.substr(prefix.size());
    const std::span<const float> values = it->second.values;
    if (name == "logits") {
      out.logits = values;
    } else if (name == "hidden_states" && it->second.shape.size() == 3) {
      const std::size_t states_of_prompt = it->second.shape[0];
      const std::size_t size = it->second.shape[1] * it->second.shape[2];
      for (std::size_t i = 0; i < states_of_prompt; ++i) {
        out.probes.push_back({fmt::format("hidden_states.{}", i), {}});
        out.expected.push_back(values.subspan(i * size, size));
      }
    } else if (name.starts_with("router.")) {
      out.probes.push_back({name, {}});
      out.expected.push_back(values);
    }
  }
  return out;
}

void run(const model_inputs& in, recorded& r, const std::set<std::string, std::less<>>& known, groups& out) {
  const auto group_of = [&](const std::string& probe) -> group& {
    return probe.starts_with("router.") ? out.router : out.hidden;
  };
  // A probe that the Program lacks is a failed case; the others still run.
  std::vector<ops::probe_request> asked;
  std::vector<std::span<const float>> expected;
  for (std::size_t i = 0; i < r.probes.size(); ++i) {
    if (known.contains(r.probes[i].name)) {
      asked.push_back(r.probes[i]);
      expected.push_back(r.expected[i]);
    } else {
      group_of(r.probes[i].name)
          .fail(r.prompt->id + " " + r.probes[i].name, "the Program has no probe of this name");
    }
  }
  in.runner.reset();
  model_runner::piece piece{0, r.prompt->ids, std::vector<std::uint32_t>(r.prompt->ids.size())};
  std::iota(piece.wanted.begin(), piece.wanted.end(), 0U);
  if (auto ran = in.runner.run({&piece, 1}, asked); !ran) {
    out.hidden.fail(r.prompt->id, ran.error().text);
    return;
  }
  for (std::size_t i = 0; i < asked.size(); ++i) {
    group& g = group_of(asked[i].name);
    g.add(r.prompt->id + " " + asked[i].name, compare(expected[i], asked[i].values, g));
  }
  if (!r.logits.empty())
    out.logits.add(r.prompt->id, compare(r.logits, in.runner.logits(piece.wanted.size()), out.logits));
}

}  // namespace

std::vector<group> check_states(const model_inputs& in, const state_tensors& states,
                                const program::verified_program& program) {
  const double allowed = in.allowed.logits;
  groups out{group("hidden states", allowed), group("router", allowed), group("all logits", allowed)};
  const auto known = probe_names(*program);
  for (const prompt_case& p : in.prompts) {
    recorded r = collect(p, states);
    if (r.probes.empty() && r.logits.empty()) continue;
    run(in, r, known, out);
    in.report("states", out.hidden.cases() + out.router.cases(), 0);
  }
  std::vector<group> all;
  all.push_back(std::move(out.hidden));
  if (out.router.cases() > 0) all.push_back(std::move(out.router));  // dense models have none
  all.push_back(std::move(out.logits));
  return all;
}

}  // namespace troupe::check

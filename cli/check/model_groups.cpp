#include "cli/check/model_groups.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace troupe::check {
namespace {

double logsumexp(std::span<const float> row) {
  const double top = *std::max_element(row.begin(), row.end());
  double sum = 0;
  for (const float x : row) sum += std::exp(x - top);
  return top + std::log(sum);
}

// The 20 best logits of the last position, and that nothing else came among them.
std::string compare_last(const prompt_case& p, std::span<const float> row, group& g) {
  std::string problem;
  for (std::size_t i = 0; i < p.top_ids.size(); ++i) {
    const float found = row[static_cast<std::size_t>(p.top_ids[i])];
    if (!g.within(std::abs(found - p.top_logits[i])) && problem.empty())
      problem = fmt::format("logit of token {}: expected {:.6f}, found {:.6f}", p.top_ids[i], p.top_logits[i],
                            found);
  }
  for (std::size_t id = 0; id < row.size() && problem.empty(); ++id)
    if (std::find(p.top_ids.begin(), p.top_ids.end(), static_cast<std::int32_t>(id)) == p.top_ids.end() &&
        !(row[id] <= p.top_logits.back() + *g.tolerance()))
      problem = fmt::format(
          "token {} (logit {:.6f}) is not among the reference's best {}, the last of which has {:.6f}", id,
          row[id], p.top_ids.size(), p.top_logits.back());
  const double sum = logsumexp(row);
  if (!g.within(std::abs(sum - p.logsumexp)) && problem.empty())
    problem = fmt::format("log of the sum of exponentials: expected {:.6f}, found {:.6f}", p.logsumexp, sum);
  return problem;
}

std::string compare_logprobs(const prompt_case& p, std::span<const float> found, group& g) {
  std::string problem;
  for (std::size_t i = 0; i < p.prompt_logprobs.size(); ++i)
    if (!g.within(std::abs(found[i] - p.prompt_logprobs[i])) && problem.empty())
      problem = fmt::format("log-probability of prompt token {} ({}): expected {:.6f}, found {:.6f}", i + 1,
                            p.ids[i + 1], p.prompt_logprobs[i], found[i]);
  return problem;
}

// A device that rounds is judged by the average too.
void judge_mean(group& g, double allowed) {
  if (allowed == 0) return;
  g.note(fmt::format("mean {:.1e}, the reference's own bf16 run {:.1e}", g.mean(), allowed));
  if (!(g.mean() <= allowed))
    g.fail("on average", fmt::format("{:.2e} from the float32 reference, its own bf16 run is {:.2e} from it",
                                     g.mean(), allowed));
}

std::vector<float> last_row(model_runner& runner) {
  return runner.logits(1);
}

struct continuation {
  std::vector<std::int32_t> ids;
  std::string problem;
  std::optional<near_tie> tie;
};

// Follows the reference for as long as the choice is the same.
result<continuation> continue_greedily(model_runner& runner, const prompt_case& p, double margin) {
  runner.reset();
  if (auto ran = runner.prefill(0, p.ids); !ran) return fail(ran.error());
  continuation out;
  for (std::size_t step = 0; step < p.greedy_ids.size(); ++step) {
    if (step > 0) {
      if (auto ran = runner.prefill(0, {&out.ids.back(), 1}); !ran) return fail(ran.error());
    }
    const std::int32_t found = runner.greedy(1).front();
    const std::int32_t expected = p.greedy_ids[step];
    if (found != expected) {
      const auto row = last_row(runner);
      const auto logit = [&](std::int32_t id) {
        return id < 0 ? std::nanf("") : row[static_cast<std::size_t>(id)];
      };
      const near_tie tie{p.id, step, expected, found, logit(expected), logit(found), p.greedy_margin[step]};
      if (tie.reference_margin < margin && found >= 0)
        out.tie = tie;
      else
        out.problem = fmt::format(
            "step {}: expected token {} (logit {:.6f}), found {} (logit {:.6f}); margin of the reference "
            "{:.2e}",
            step, expected, tie.expected_logit, found, tie.found_logit, tie.reference_margin);
      return out;
    }
    out.ids.push_back(found);
  }
  return out;
}

std::string compare_answer(const prompt_case& p, const continuation& c, const text::tokenizer& tokenizer) {
  const std::size_t length = p.first_stop.value_or(p.greedy_ids.size());
  if (c.ids.size() < length)
    return fmt::format("the text of {} tokens is not complete: only {} are those of the reference", length,
                       c.ids.size());
  const std::string text = tokenizer.decode(std::span(c.ids).first(length), true);
  if (text != p.greedy_text) return fmt::format("expected \"{}\", found \"{}\"", p.greedy_text, text);
  if (p.expect && text.find(*p.expect) == std::string::npos)
    return fmt::format("expected a text with \"{}\", found \"{}\"", *p.expect, text);
  return "";
}

}  // namespace

tolerances of_rounded_products(const std::vector<prompt_case>& prompts) {
  prompt_case::distance logits, logprobs;
  tolerances out;
  for (const prompt_case& p : prompts) {
    for (auto [all, own] : {std::pair{&logits, &p.bf16_logits}, std::pair{&logprobs, &p.bf16_logprobs}}) {
      all->sum += own->sum;
      all->differences += own->differences;
      all->largest = std::max(all->largest, own->largest);
    }
    out.keep_greedy += p.bf16_keeps_greedy ? 1 : 0;
  }
  if (logits.differences == 0 || logprobs.differences == 0) return out;
  out.logits = out.batch = std::max(logits.largest, logprobs.largest);
  out.mean_logits = logits.sum / static_cast<double>(logits.differences);
  out.mean_logprobs = logprobs.sum / static_cast<double>(logprobs.differences);
  out.greedy_margin = 1.0;  // what leaves the path is judged by how many keep it
  return out;
}

std::vector<group> check_logits(const model_inputs& in) {
  group logits("logits", in.allowed.logits), logprobs("prompt logprobs", in.allowed.logits);
  for (const prompt_case& p : in.prompts) {
    in.runner.reset();
    // Rows 0 .. n-1 give the n prompt log-probabilities; the last row is the last position.
    const std::size_t scored = p.prompt_logprobs.size();
    model_runner::piece piece{0, p.ids, std::vector<std::uint32_t>(scored)};
    std::iota(piece.wanted.begin(), piece.wanted.end(), 0U);
    piece.wanted.push_back(static_cast<std::uint32_t>(p.ids.size() - 1));
    if (auto ran = in.runner.run({&piece, 1}); !ran) {
      logits.fail(p.id, ran.error().text);
      continue;
    }
    const auto rows = in.runner.logits(piece.wanted.size());
    const auto last = std::span(rows).last(in.runner.vocabulary());
    logits.add(p.id, compare_last(p, last, logits));
    if (scored > 0)
      logprobs.add(p.id, compare_logprobs(p, in.runner.score(std::span(p.ids).subspan(1, scored)), logprobs));
    in.report("logits", logits.cases(), in.prompts.size());
  }
  judge_mean(logits, in.allowed.mean_logits);
  judge_mean(logprobs, in.allowed.mean_logprobs);
  return {std::move(logits), std::move(logprobs)};
}

group check_chunks(const model_inputs& in) {
  group out("chunks", in.allowed.logits);
  out.note("prompts in steps of 5, 64 and 257 tokens");
  const auto total = in.prompts.size();
  std::size_t done = 0;
  for (const prompt_case& p : in.prompts) {
    for (const std::size_t chunk : {5U, 64U, 257U}) {
      // Steps of 5 are for the shorter prompts; a step as long as the prompt is what "logits" does.
      if (chunk >= p.ids.size() || p.ids.size() / chunk > 100) continue;
      in.runner.reset();
      const auto ran = in.runner.prefill(0, p.ids, chunk);
      out.add(fmt::format("{} by {}", p.id, chunk),
              ran ? compare_last(p, last_row(in.runner), out) : ran.error().text);
    }
    in.report(out.name(), ++done, total);
  }
  return out;
}

std::vector<group> check_greedy(const model_inputs& in, const text::tokenizer_ptr& tokenizer) {
  group greedy("greedy"), answers("answers");
  std::size_t tokens = 0, kept = 0;
  for (const prompt_case& p : in.prompts) {
    const auto c = continue_greedily(in.runner, p, in.allowed.greedy_margin);
    if (!c) {
      greedy.fail(p.id, c.error().text);
      continue;
    }
    tokens += c->ids.size();
    if (c->ids.size() >= std::min<std::size_t>(16, p.greedy_ids.size())) ++kept;
    greedy.add(p.id, c->problem);
    if (c->tie) greedy.add(*c->tie);
    // What a near-tie cut short cannot be compared as a text, unless an answer is demanded.
    if (!c->tie || p.expect) answers.add(p.id, compare_answer(p, *c, *tokenizer));
    in.report(greedy.name(), greedy.cases(), in.prompts.size());
  }
  greedy.note(fmt::format("{} tokens equal", tokens));
  if (in.allowed.keep_greedy > 0) {
    greedy.note(
        fmt::format("{} tokens equal; {} prompts keep the path for 16, of the reference's own bf16 run {}",
                    tokens, kept, in.allowed.keep_greedy));
    if (kept < in.allowed.keep_greedy)
      greedy.fail("prompts that keep the path", "fewer than in the reference's own bf16 run");
  }
  return {std::move(greedy), std::move(answers)};
}

}  // namespace troupe::check

#include "cli/check/check.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>

#include "cli/check/goldens.hpp"
#include "cli/check/loaded_model.hpp"
#include "cli/check/model_groups.hpp"
#include "cli/check/plain_groups.hpp"
#include "cli/check/text_groups.hpp"
#include "kernel/base/text.hpp"

namespace troupe::check {
namespace {

bool contains(const std::vector<std::string>& words, std::string_view word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

// The groups to run, in the order of `known`.
result<std::vector<std::string>> choose(const std::vector<std::string>& only,
                                        const std::vector<std::string>& known) {
  if (only.empty()) return known;
  for (const std::string& name : only)
    if (!contains(known, name)) {
      const std::string near = nearest(name, known);
      return fail(error_code::invalid_request, "--only {}: no such group here{}; known: {}", name,
                  near.empty() ? "" : fmt::format(" (did you mean {}?)", near), fmt::join(known, ", "));
    }
  std::vector<std::string> out;
  for (const std::string& name : known)
    if (contains(only, name)) out.push_back(name);
  return out;
}

// What nobody asked for by name and the folder has no reference outputs for: each as "states (no states.safetensors)".
std::vector<std::string> leave_out(const options& o, std::vector<std::string>& names) {
  std::vector<std::string> out;
  if (!o.only.empty()) return out;
  for (const auto& [name, file] :
       {std::pair("template", "template_cases.json"), std::pair("states", "states.safetensors")}) {
    std::error_code ignored;
    if (std::filesystem::exists(*o.goldens / file, ignored)) continue;
    std::erase(names, name);
    out.push_back(fmt::format("{} (no {})", name, file));
  }
  return out;
}

result<std::vector<prompt_case>> choose_prompts(const options& o) {
  auto prompts = read_prompts(*o.goldens);
  if (!prompts || o.prompts.empty()) return prompts;
  std::vector<std::string> ids;
  for (const prompt_case& p : *prompts) ids.push_back(p.id);
  for (const std::string& id : o.prompts)
    if (!contains(ids, id)) {
      const std::string near = nearest(id, ids);
      return fail(error_code::invalid_request, "--prompt {}: no such prompt{}; known: {}", id,
                  near.empty() ? "" : fmt::format(" (did you mean {}?)", near), fmt::join(ids, ", "));
    }
  std::erase_if(*prompts, [&](const prompt_case& p) { return !contains(o.prompts, p.id); });
  return prompts;
}

group blocked(std::string name, std::string reason) {
  group g(std::move(name));
  g.block(std::move(reason));
  return g;
}

void add(report& out, std::vector<group> groups) {
  for (group& g : groups) out.groups.push_back(std::move(g));
}

void run_text_group(const options& o, const std::string& name, const std::vector<prompt_case>& prompts,
                    const result<text::tokenizer_ptr>& tokenizer, report& out) {
  if (!tokenizer) return out.groups.push_back(blocked(name, tokenizer.error().text));
  if (name == "tokenizer") {
    const auto cases = read_tokenizer_cases(*o.goldens);
    if (cases) return out.groups.push_back(check_tokenizer(*cases, prompts, *tokenizer, o.report));
    if (cases.error().code != error_code::not_found)
      return out.groups.push_back(blocked(name, cases.error().text));
    out.groups.push_back(check_tokenizer({}, prompts, *tokenizer, o.report));
    return out.groups.back().note("the prompts alone: no tokenizer_cases.json");
  }
  const auto cases = read_template_cases(*o.goldens);
  out.groups.push_back(cases ? check_template(*cases, prompts, *tokenizer, o.report)
                             : blocked(name, cases.error().text));
}

void run_model_group(const options& o, const std::string& name, const model_inputs& in,
                     const loaded_model& model, const result<text::tokenizer_ptr>& tokenizer, report& out) {
  if (name == "logits") return add(out, check_logits(in));
  if (name == "chunks") return add(out, {check_chunks(in)});
  if (name == "batch") return add(out, {check_batch(in)});
  if (name == "greedy")
    return add(out,
               tokenizer ? check_greedy(in, *tokenizer) : std::vector{blocked(name, tokenizer.error().text)});
  const auto states = read_states(*o.goldens);
  add(out,
      states ? check_states(in, *states, model.program) : std::vector{blocked(name, states.error().text)});
}

// Room for the longest prompt and its continuation, and for all short ones together.
std::uint64_t cache_tokens(const std::vector<prompt_case>& prompts) {
  std::uint64_t longest = 0, together = 0;
  for (const prompt_case& p : prompts) {
    const std::uint64_t tokens = p.ids.size() + p.greedy_ids.size();
    longest = std::max(longest, tokens);
    if (p.ids.size() <= 256) together += tokens;
  }
  return std::max(longest, together);
}

result<void> run_against_goldens(const options& o, const modules::registry& known,
                                 const checkpoint::checkpoint_config& config, report& out) {
  auto names = choose(o.only, golden_groups);
  if (!names) return fail(names.error());
  out.left_out = leave_out(o, *names);
  const auto prompts = choose_prompts(o);
  if (!prompts) return fail(prompts.error());
  const auto tokenizer = text::load_tokenizer(o.model);
  const tolerances allowed = o.exact ? tolerances{} : of_rounded_products(*prompts);
  std::optional<result<loaded_model>> model;  // loaded when the first group asks for it
  for (const std::string& name : *names) {
    o.report(name, 0, 0);
    if (name == "tokenizer" || name == "template") {
      run_text_group(o, name, *prompts, tokenizer, out);
      continue;
    }
    if (!model) {
      runner_options runner = o.runner;
      runner.cache_tokens = cache_tokens(*prompts);
      model = load_model(config, known, runner);
      if (*model) {
        out.module = (*model)->module_name;
        out.device = (*model)->runner->device();
      }
    }
    if (!*model)
      out.groups.push_back(blocked(name, model->error().text));
    else
      run_model_group(o, name, {*(*model)->runner, *prompts, allowed, o.report}, **model, tokenizer, out);
  }
  return {};
}

}  // namespace

result<report> run(const options& o, const modules::registry& known) {
  const auto begin = std::chrono::steady_clock::now();
  report out;
  out.model = o.model.string();
  const auto config = checkpoint::read_config(o.model);
  if (!config) return fail(config.error());
  out.architecture = config->architecture;
  if (o.goldens) {
    if (auto ran = run_against_goldens(o, known, *config, out); !ran) return fail(ran.error());
  } else {
    const auto names = choose(o.only, plain_groups);
    if (!names) return fail(names.error());
    check_alone(*names, *config, known, o.runner, o.report, out);
  }
  out.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return out;
}

}  // namespace troupe::check

#include "cli/check/plain_groups.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "actors/tokenizer/chat_template.hpp"
#include "actors/tokenizer/tokenizer.hpp"
#include "cli/check/loaded_model.hpp"
#include "kernel/base/text.hpp"

namespace troupe::check {
namespace {

template <class T>
std::string problem_of(const result<T>& r) {
  return r ? "" : r.error().text;
}

group check_files(const checkpoint::checkpoint_config& config) {
  group out("files");
  out.pass();  // config.json: it has been read
  const auto weights = checkpoint::weights::open(config.folder);
  out.add("weights", problem_of(weights));
  if (weights && (*weights)->seed())
    out.note(fmt::format("made-up weights, seed {}", *(*weights)->seed()));
  else if (weights)
    out.note(
        fmt::format("{} tensors, {}", (*weights)->tensors().size(), human_bytes((*weights)->total_bytes())));
  const auto tokenizer = text::load_tokenizer(config.folder);
  out.add("tokenizer", problem_of(tokenizer));
  if (tokenizer && !(*tokenizer)->chat_template().empty())
    out.add("chat template", problem_of(text::chat_template::parse((*tokenizer)->chat_template())));
  return out;
}

group check_program(const checkpoint::checkpoint_config& config, const modules::registry& known,
                    report& about) {
  group out("program");
  const auto module = find_module(config, known);
  if (!module) {
    out.block(module.error().text);
    return out;
  }
  about.module = (*module)->name() + " " + (*module)->version();
  const auto program = (*module)->build(config.config_json);
  out.add("build", problem_of(program));
  if (program) out.note(fmt::format("{} operations", (*program)->ops()->size()));
  return out;
}

group check_weights(const checkpoint::checkpoint_config& config, const modules::registry& known) {
  group out("weights");
  const auto module = find_module(config, known);
  const auto program = module ? (*module)->build(config.config_json) : fail(module.error());
  const auto files = checkpoint::weights::open(config.folder);
  if (!program || !files) {
    out.block(!program ? program.error().text : files.error().text);
    return out;
  }
  for (const program::Weight* w : *(*program)->weights())
    out.add(w->name()->str(), problem_of(checkpoint::bind(*w, **files, checkpoint::made_up::left_out)));
  return out;
}

std::vector<std::int32_t> some_prompt(const checkpoint::checkpoint_config& config,
                                      const program::Program& program) {
  std::vector<std::int32_t> ids;
  if (const auto tokenizer = text::load_tokenizer(config.folder))
    ids = (*tokenizer)->encode("The quick brown fox jumps over the lazy dog, and 12 + 9 = 21.", true);
  if (ids.empty()) ids = {0, 1, 2, 3, 5, 8, 13, 21, 34, 55};
  const auto vocabulary = static_cast<std::int32_t>(program.facts()->vocabulary());
  std::erase_if(ids, [&](std::int32_t id) { return id >= vocabulary; });
  if (const std::uint32_t context = program.facts()->context_tokens(); context > 0 && ids.size() > context)
    ids.resize(context);
  return ids;
}

group check_run(const checkpoint::checkpoint_config& config, const modules::registry& known,
                runner_options options, report& about) {
  group out("run", 5e-4);
  options.cache_tokens = 512;
  auto model = load_model(config, known, options);
  if (!model) {
    out.block(model.error().text);
    return out;
  }
  about.device = model->runner->device();
  const auto ids = some_prompt(config, *model->program);
  model_runner& runner = *model->runner;
  if (auto ran = runner.prefill(0, ids); !ran) {
    out.fail("one step", ran.error().text);
    return out;
  }
  const auto whole = runner.logits(1);
  const bool finite = std::all_of(whole.begin(), whole.end(), [](float x) { return std::isfinite(x); });
  out.add("finite logits", finite ? "" : "some logits of the last position are NaN or infinite");
  runner.reset();
  if (auto ran = runner.prefill(0, ids, 1); !ran) {
    out.fail("token by token", ran.error().text);
    return out;
  }
  const auto single = runner.logits(1);
  double largest = 0;
  for (std::size_t i = 0; i < whole.size(); ++i)
    largest = std::max(largest, std::abs(static_cast<double>(whole[i]) - single[i]));
  out.add("token by token", out.within(finite ? largest : std::nan(""))
                                ? ""
                                : fmt::format("logits differ by {:.2e} from those of one step", largest));
  return out;
}

}  // namespace

void check_alone(const std::vector<std::string>& names, const checkpoint::checkpoint_config& config,
                 const modules::registry& known, const runner_options& runner, const progress& progressed,
                 report& out) {
  for (const std::string& name : names) {
    progressed(name, 0, 0);
    if (name == "files") out.groups.push_back(check_files(config));
    if (name == "program") out.groups.push_back(check_program(config, known, out));
    if (name == "weights") out.groups.push_back(check_weights(config, known));
    if (name == "run") out.groups.push_back(check_run(config, known, runner, out));
  }
}

}  // namespace troupe::check

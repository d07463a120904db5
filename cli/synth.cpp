// `troupe synth`: models of any size with made-up weights, for benchmarks and for finding out what fits.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <CLI/CLI.hpp>
#include <fstream>
#include <memory>

#include "cli/check/loaded_model.hpp"
#include "cli/commands.hpp"
#include "cli/local.hpp"
#include "cli/output.hpp"
#include "kernel/base/text.hpp"
#include "kernel/program/native_ops.hpp"

namespace troupe::cli {
namespace {

namespace fs = std::filesystem;

struct synth_command {
  std::string config;
  std::string module;
  std::string out;
  std::string tokenizer;
  std::string device = "cuda";
  std::string weights = "bf16";
  std::uint64_t seed = 1;
};

constexpr const char* tokenizer_files[] = {"tokenizer.json", "tokenizer_config.json",
                                           "special_tokens_map.json", "generation_config.json"};

result<void> copy_to(const fs::path& from, const fs::path& to) {
  std::error_code code;
  fs::copy_file(from, to, code);
  if (code) return fail(error_code::not_found, "{}: cannot be copied: {}", from.string(), code.message());
  return {};
}

// The folder that --tokenizer names, else the demo checkpoint of the same architecture.
result<fs::path> find_tokenizer(const synth_command& c, const std::string& architecture,
                                const config::install_paths& paths) {
  if (!c.tokenizer.empty()) return find_model(c.tokenizer, paths);
  for (const auto& demo : demo_models(paths)) {
    const auto known = checkpoint::read_config(paths.share / "demo" / demo);
    if (known && known->architecture == architecture) return paths.share / "demo" / demo;
  }
  return fail(error_code::not_found,
              "no demo checkpoint is a {}: name a folder whose tokenizer is to be taken with --tokenizer",
              architecture);
}

// A checkpoint folder whose weights are made where they are loaded.
result<void> write_folder(const synth_command& c, const fs::path& tokenizer) {
  const fs::path out = c.out;
  std::error_code code;
  if (fs::exists(out, code) && (!fs::is_directory(out, code) || !fs::is_empty(out, code)))
    return fail(error_code::invalid_request, "--out {}: is there already; nothing was written", c.out);
  fs::create_directories(out, code);
  if (code) return fail(error_code::not_found, "--out {}: cannot be created: {}", c.out, code.message());
  if (auto done = copy_to(c.config, out / "config.json"); !done) return done;
  for (const char* name : tokenizer_files)
    if (fs::exists(tokenizer / name, code))
      if (auto done = copy_to(tokenizer / name, out / name); !done) return done;
  std::ofstream seed(out / checkpoint::synthetic_name);
  seed << fmt::format("{{\"seed\": {}}}\n", c.seed);
  seed.close();
  if (!seed)
    return fail(error_code::not_found, "{}: cannot be written", (out / checkpoint::synthetic_name).string());
  return {};
}

// Loads the model and lets it say a few tokens: what fits, how long it takes, and that the same seed makes the same model.
result<std::string> try_model(const synth_command& c, const program::verified_program& program,
                              program::native_ops native, const config::install_paths& paths) {
  constexpr std::size_t prompt = 16, answer = 16;
  std::string told;
  check::runner_options how;
  how.library = paths.backend(c.device);
  how.int8 = c.weights == "int8";
  how.cache_tokens = prompt + answer;
  how.native_ops = std::move(native);
  how.tell = [&told](std::string_view line) { told += std::string(line) + "\n"; };
  const auto start = std::chrono::steady_clock::now();
  auto runner = check::model_runner::open(program, checkpoint::weights::synthetic(c.seed), how);
  if (!runner) return fail(runner.error());
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::vector<std::int32_t> tokens, said;
  for (std::size_t i = 0; i < prompt; ++i)
    tokens.push_back(static_cast<std::int32_t>((i + 1) * 7919 % program->facts()->vocabulary()));
  if (auto ran = (*runner)->prefill(0, tokens); !ran) return fail(ran.error());
  while (said.size() < answer) {
    said.push_back((*runner)->greedy(1)[0]);
    if (auto ran = (*runner)->prefill(0, {&said.back(), 1}); !ran) return fail(ran.error());
  }
  return fmt::format("{}made in {:.2f} s on {}\nseed {}: {}\n", told, seconds, (*runner)->device(), c.seed,
                     fmt::join(said, " "));
}

int run_synth(const synth_command& c, const context& shared) {
  const auto config = checkpoint::read_config(c.config);
  if (!config) return report(config.error());
  const auto known = load_modules_or(shared.paths, c.module);
  if (!known) return report(known.error());
  const auto module = check::find_module(*config, known->registry);
  if (!module) return report(module.error());
  const auto program = (*module)->build(config->config_json);
  if (!program) return report(program.error());
  if (!c.out.empty()) {
    const auto tokenizer = find_tokenizer(c, config->architecture, shared.paths);
    if (!tokenizer) return report(tokenizer.error());
    if (auto done = write_folder(c, *tokenizer); !done) return report(done.error());
    return write_out(fmt::format("{}: {} parameters, tokenizer of {}; troupe serve --model {}\n", c.out,
                                 short_count(program::count_parameters(**program).total),
                                 tokenizer->filename().string(), c.out))
               ? exit_ok
               : exit_failed;
  }
  program::native_ops native;
  if (program::has_native_ops(**program)) {
    auto found = (*module)->native_ops();
    if (!found) return report(found.error());
    native = std::move(*found);
  }
  const auto tried = try_model(c, *program, std::move(native), shared.paths);
  if (!tried) return report(tried.error());
  return write_out(*tried) ? exit_ok : exit_failed;
}

}  // namespace

void add_synth(CLI::App& app, context& shared) {
  auto o = std::make_shared<synth_command>();
  auto* command =
      app.add_subcommand("synth", "Make a model of any size with made-up weights, for benchmarks");
  command->add_option("--config", o->config, "config.json of the model, as published")->required();
  command->add_option("--out", o->out,
                      "Write a checkpoint folder that serve and check take; else try the model");
  command->add_option(
      "--tokenizer", o->tokenizer,
      "With --out: checkpoint folder whose tokenizer to take (default: the demo checkpoint of "
      "the same architecture)");
  command->add_option("--seed", o->seed, "The same seed makes the same numbers, on every device")
      ->check(CLI::Range(std::uint64_t{0}, std::uint64_t{1} << 62))
      ->capture_default_str();
  command->add_option("--device", o->device, "Backend to try the model on")
      ->check(CLI::IsMember({"cpu", "cuda"}))
      ->capture_default_str();
  command->add_option("--weights", o->weights, "bf16, or int8 = quantized as they are made (cuda only)")
      ->check(CLI::IsMember({"bf16", "int8"}))
      ->capture_default_str();
  command->add_option("--module", o->module,
                      "Library file of the module to use, instead of the installed ones");
  command->footer(
      "A made-up model says nothing, but takes the memory and the time of the real one. The folder holds no "
      "weights: a seed\n"
      "and the weight's name determine each number, which the device makes by itself, in seconds.\n\n"
      "Examples:\n"
      "  troupe synth --config Mixtral-8x7B.json --weights int8      does it fit on this device?\n"
      "  troupe synth --config Mixtral-8x7B.json --out synthetic && troupe serve --model synthetic\n");
  command->callback([o, &shared] { shared.run = [o, &shared] { return run_synth(*o, shared); }; });
}

}  // namespace troupe::cli

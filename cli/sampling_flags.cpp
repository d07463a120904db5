#include "cli/sampling_flags.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <CLI/CLI.hpp>
#include <functional>

#include "cli/output.hpp"
#include "kernel/base/text.hpp"

namespace troupe::cli {
namespace {

template <class T>
bool parse(std::string_view text, T& out) {
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), out);
  return problem == std::errc() && end == text.data() + text.size() && !text.empty();
}

// A value that chat's /set may change.
struct setting {
  const char* name;
  std::function<bool(sampling_flags&, std::string_view)>
      assign;  // false: not such a value; empty text = back to nothing
  std::function<std::string(const sampling_flags&)> show;  // empty if nothing is set
};

template <class T>
setting optional_setting(const char* name, std::optional<T> sampling_flags::*member) {
  return {name,
          [member](sampling_flags& f, std::string_view text) {
            T value{};
            if (text.empty()) return (f.*member).reset(), true;
            if (!parse(text, value)) return false;
            f.*member = value;
            return true;
          },
          [member](const sampling_flags& f) {
            return f.*member ? fmt::format("{}", *(f.*member)) : std::string();
          }};
}

setting count_setting(const char* name, std::uint32_t sampling_flags::*member) {
  return {name,
          [member](sampling_flags& f, std::string_view text) {
            if (text.empty()) return f.*member = 0, true;
            std::uint32_t value = 0;
            if (!parse(text, value)) return false;
            f.*member = value;
            return true;
          },
          [member](const sampling_flags& f) {
            return f.*member > 0 ? fmt::format("{}", f.*member) : std::string();
          }};
}

const std::vector<setting>& settings() {
  static const std::vector<setting> all{
      optional_setting("temperature", &sampling_flags::temperature),
      optional_setting("top_k", &sampling_flags::top_k),
      optional_setting("top_p", &sampling_flags::top_p),
      optional_setting("min_p", &sampling_flags::min_p),
      optional_setting("repetition_penalty", &sampling_flags::repetition_penalty),
      optional_setting("presence_penalty", &sampling_flags::presence_penalty),
      optional_setting("frequency_penalty", &sampling_flags::frequency_penalty),
      optional_setting("seed", &sampling_flags::seed),
      count_setting("max_tokens", &sampling_flags::max_tokens),
      count_setting("min_tokens", &sampling_flags::min_tokens)};
  return all;
}

bool anything_sampled(const sampling_flags& f) {
  return f.temperature || f.top_p || f.min_p || f.repetition_penalty || f.presence_penalty ||
         f.frequency_penalty || f.top_k || f.seed || !f.logit_bias.empty();
}

}  // namespace

void add_sampling_flags(CLI::App& command, sampling_flags& f) {
  const auto sampling =
      "Sampling (without any: as the checkpoint recommends; with one, the others are neutral)";
  command.add_option("-t,--temperature", f.temperature, "0 = always the most likely token")->group(sampling);
  command.add_option("--top-k", f.top_k, "Choose among the K most likely; 0 = all")->group(sampling);
  command.add_option("--top-p", f.top_p, "Choose among the fewest that reach this probability; 1 = all")
      ->group(sampling);
  command
      .add_option("--min-p", f.min_p, "Drop what is less likely than this times the likeliest; 0 = nothing")
      ->group(sampling);
  command.add_option("--repetition-penalty", f.repetition_penalty, "Above 1: repeat less; 1 = none")
      ->group(sampling);
  command
      .add_option("--presence-penalty", f.presence_penalty,
                  "-2 to 2, once per token that was generated; 0 = none")
      ->group(sampling);
  command.add_option("--frequency-penalty", f.frequency_penalty, "-2 to 2, per occurrence; 0 = none")
      ->group(sampling);
  command.add_option("--logit-bias", f.logit_bias, "id=bias, -100 to 100; may be repeated")
      ->allow_extra_args(false)
      ->group(sampling);
  command.add_option("--seed", f.seed, "The same seed gives the same answer")->group(sampling);
  const auto end = "End";
  command
      .add_option("-m,--max-tokens", f.max_tokens,
                  "Tokens to generate at most; 0 = as many as the context allows")
      ->group(end);
  command.add_option("--min-tokens", f.min_tokens, "No end before that many tokens")->group(end);
  command.add_option("--stop", f.stop, "End before this text; may be repeated; \\n is a line break")
      ->allow_extra_args(false)
      ->group(end);
  command.add_option("--stop-id", f.stop_ids, "End at this token; may be repeated")
      ->allow_extra_args(false)
      ->group(end);
  command.add_flag("--ignore-eos", f.ignore_eos, "Go on beyond the model's own end of sequence")->group(end);
  command.add_flag("--include-stop", f.include_stop, "Leave the text of --stop in the answer")->group(end);
}

result<std::optional<client::sampling_options>> sampling_of(const sampling_flags& f) {
  if (!anything_sampled(f)) return std::nullopt;
  client::sampling_options o;
  o.temperature = f.temperature.value_or(o.temperature);
  o.top_k = f.top_k.value_or(o.top_k);
  o.top_p = f.top_p.value_or(o.top_p);
  o.min_p = f.min_p.value_or(o.min_p);
  o.repetition_penalty = f.repetition_penalty.value_or(o.repetition_penalty);
  o.presence_penalty = f.presence_penalty.value_or(o.presence_penalty);
  o.frequency_penalty = f.frequency_penalty.value_or(o.frequency_penalty);
  o.seed = f.seed;
  for (const std::string& text : f.logit_bias) {
    const auto equals = text.find('=');
    std::int32_t id = 0;
    float bias = 0;
    if (equals == text.npos || !parse(std::string_view(text).substr(0, equals), id) ||
        !parse(std::string_view(text).substr(equals + 1), bias))
      return fail(error_code::invalid_request, "--logit-bias {}: expected id=bias, like 42=-100", text);
    o.logit_bias[id] = bias;
  }
  return o;
}

client::stop_conditions stop_of(const sampling_flags& f) {
  client::stop_conditions s;
  s.max_tokens = f.max_tokens;
  s.min_tokens = f.min_tokens;
  s.token_ids = f.stop_ids;
  for (const std::string& text : f.stop) s.strings.push_back(unescaped(text));
  s.ignore_eos = f.ignore_eos;
  s.include_stop_string = f.include_stop;
  return s;
}

result<void> set_sampling(sampling_flags& flags, std::string_view name, std::string_view value) {
  std::string wanted(name);
  std::replace(wanted.begin(), wanted.end(), '-', '_');
  std::vector<std::string> known;
  for (const setting& s : settings()) {
    if (s.name == wanted) {
      if (s.assign(flags, value)) return {};
      return fail(error_code::invalid_request, "{}: expected a number, found \"{}\"", wanted, value);
    }
    known.emplace_back(s.name);
  }
  const std::string near = nearest(wanted, known);
  return fail(error_code::invalid_request, "{}: no such setting{}; known: {}", name,
              near.empty() ? "" : fmt::format(" (did you mean {}?)", near), fmt::join(known, ", "));
}

std::string describe(const sampling_flags& flags) {
  std::vector<std::string> parts;
  for (const setting& s : settings())
    if (const std::string value = s.show(flags); !value.empty())
      parts.push_back(fmt::format("{} {}", s.name, value));
  return parts.empty() ? "as the checkpoint recommends" : fmt::format("{}", fmt::join(parts, ", "));
}

}  // namespace troupe::cli

#include <fmt/format.h>

#include <boost/json/parse.hpp>
#include <CLI/CLI.hpp>
#include <memory>

#include "cli/answer_writer.hpp"
#include "cli/commands.hpp"
#include "cli/input.hpp"
#include "cli/interrupt.hpp"
#include "cli/output.hpp"
#include "cli/reach.hpp"
#include "cli/sampling_flags.hpp"

namespace troupe::cli {
namespace {

struct generate_command {
  std::vector<std::string> prompt;
  std::string model;
  bool chat = false, raw = false;
  std::string messages;  // file
  std::string system;
  std::vector<std::int32_t> ids;
  sampling_flags sampling;
  std::uint32_t n = 1;
  std::optional<std::uint32_t> logprobs;
  std::optional<std::uint32_t> prompt_logprobs;
  bool echo = false, special = false;
  std::uint32_t deadline_ms = 0;
  bool json = false, stream = false, no_stream = false, usage = false;
};

// [{"role": "user", "content": "Hi"}, ...]
result<client::chat_prompt> read_messages(const std::string& file) {
  const auto text = read_all(file);
  if (!text) return fail(text.error());
  client::chat_prompt chat;
  try {
    const boost::json::value list = boost::json::parse(*text);
    for (const auto& m : list.as_array())
      chat.messages.push_back(
          {std::string(m.at("role").as_string()), std::string(m.at("content").as_string())});
  } catch (const std::exception& e) {
    return fail(error_code::invalid_request,
                R"(--messages {}: expected a JSON array of {{"role": "user", "content": "Hi"}}: {})", file,
                e.what());
  }
  return chat;
}

result<client::prompt_variant> make_prompt(const generate_command& c) {
  if (!c.ids.empty()) return client::token_prompt{c.ids};
  if (!c.messages.empty()) {
    auto chat = read_messages(c.messages);
    if (!chat) return fail(chat.error());
    return std::move(*chat);
  }
  auto text = argument_or_stdin(c.prompt);
  if (!text) return fail(text.error());
  if (c.raw) return client::text_prompt{std::move(*text)};
  client::chat_prompt chat;
  if (!c.system.empty()) chat.messages.push_back({"system", c.system});
  chat.messages.push_back({"user", std::move(*text)});
  return chat;
}

result<client::generate_request> make_request(const generate_command& c) {
  auto prompt = make_prompt(c);
  if (!prompt) return fail(prompt.error());
  auto sampling = sampling_of(c.sampling);
  if (!sampling) return fail(sampling.error());
  client::generate_request r;
  r.prompt = std::move(*prompt);
  r.sampling = std::move(*sampling);
  r.stop = stop_of(c.sampling);
  r.n = c.n;
  r.stream = !c.no_stream && (!c.json || c.stream);
  r.logprobs = c.logprobs.has_value();
  r.top_logprobs = c.logprobs.value_or(0);
  r.prompt_logprobs = c.prompt_logprobs ? static_cast<std::int32_t>(*c.prompt_logprobs) : -1;
  r.echo = c.echo;
  r.skip_special_tokens = !c.special;
  r.deadline = client::milliseconds(c.deadline_ms);
  return r;
}

// Reads the stream to its end. Ctrl-C and a reader that has gone cancel it.
int follow(client::stream& answer, answer_writer& out, bool usage) {
  bool written = true;
  {
    const cancel_on_interrupt watch([&answer] { answer.cancel(); });
    while (const auto piece = answer.next()) {
      if (!written) continue;
      written = out.add(*piece);
      if (!written) answer.cancel();
    }
  }
  if (written) written = out.finish(answer.final());
  if (usage) fmt::print(stderr, "{}\n", usage_text(answer.final().usage));
  if (interrupt_guard::pressed()) return exit_interrupted;
  return written ? exit_ok : exit_failed;
}

int run_generate(const generate_command& c, const context& shared) {
  auto request = make_request(c);
  if (!request) return report(request.error());
  auto server = reach(shared, c.model);
  if (!server) return report(server.error());
  const interrupt_guard guard;
  try {
    // A script wants to know who answered: without a name it is the first that the server lists.
    if (c.json && server->model.empty()) server->model = server->connection.models().at(0).name;
    request->model = server->model;
    const auto writer = make_writer({server->model, c.json, c.stream, c.n, c.logprobs.has_value()});
    client::stream answer = server->connection.generate(*request);
    return follow(answer, *writer, c.usage);
  } catch (const client::failure& f) {
    return report(to_error(f));
  }
}

void add_input_options(CLI::App& command, generate_command& o) {
  const auto input = "Input";
  auto* prompt = command.add_option("prompt", o.prompt, "The question or text; absent or - = standard input");
  auto* raw =
      command.add_flag("--raw", o.raw, "Continue the text as it is, without the chat template")->group(input);
  command.add_flag("--chat", o.chat, "Ask through the checkpoint's chat template (the default)")
      ->group(input)
      ->excludes(raw);
  auto* system = command.add_option("--system", o.system, "A system message before the question")
                     ->group(input)
                     ->excludes(raw);
  auto* messages = command
                       .add_option("--messages", o.messages,
                                   "JSON file of chat messages, - = standard input, instead of a prompt")
                       ->group(input)
                       ->excludes(raw)
                       ->excludes(system)
                       ->excludes(prompt);
  command.add_option("--ids", o.ids, "Token ids instead of a prompt, separated by commas")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->group(input)
      ->excludes(raw)
      ->excludes(system)
      ->excludes(messages)
      ->excludes(prompt);
}

void add_output_options(CLI::App& command, generate_command& o) {
  const auto output = "Output";
  command.add_option("-n,--n", o.n, "Independent answers")->group(output);
  command.add_flag("--json", o.json, "One JSON object; with --stream a line per piece")->group(output);
  auto* stream =
      command.add_flag("--stream", o.stream, "With --json: a line per piece, as it comes")->group(output);
  command.add_flag("--no-stream", o.no_stream, "Show the answer when it is complete")
      ->group(output)
      ->excludes(stream);
  command
      .add_option("--logprobs", o.logprobs,
                  "Show log-probabilities of the tokens, with that many alternatives (0 to 20)")
      ->group(output);
  command.add_option("--prompt-logprobs", o.prompt_logprobs, "The same for the prompt's tokens")
      ->group(output);
  command.add_flag("--echo", o.echo, "Begin with the text of the prompt")->group(output);
  command.add_flag("--special", o.special, "Show special tokens")->group(output);
  command.add_option("--deadline-ms", o.deadline_ms, "Give up after that long; 0 = never")->group(output);
  command.add_flag("--usage", o.usage, "Say on stderr how many tokens it took, and how long")->group(output);
}

}  // namespace

void add_generate(CLI::App& app, context& shared) {
  auto o = std::make_shared<generate_command>();
  auto* command = app.add_subcommand("generate", "Ask once and stream the answer");
  command->add_option(
      "--model", o->model,
      "Name of a model at the server, or a checkpoint folder (with a slash): then no server is needed");
  add_input_options(*command, *o);
  add_output_options(*command, *o);
  add_sampling_flags(*command, o->sampling);
  command->footer(
      "The server is the one at --endpoint. A --model with a slash is a folder: it is loaded into this "
      "process.\n"
      "Ctrl-C cancels the answer. Ends with 0, 1 if the request failed, 2 if it was wrong, 130 if "
      "cancelled.\n\n"
      "Examples:\n"
      "  troupe generate \"What is the capital of France?\"\n"
      "  troupe generate --raw --temperature 0 --max-tokens 40 \"Once upon a time\"\n"
      "  git diff | troupe generate --system \"Summarise in one line.\"\n"
      "  troupe generate --json --n 3 --seed 7 \"Tell me a story\" | jq -r '.choices[].text'\n"
      "  troupe generate --model ./demo/mixtral-demo \"Hello!\"     # no server\n");
  command->callback([o, &shared] { shared.run = [o, &shared] { return run_generate(*o, shared); }; });
}

}  // namespace troupe::cli

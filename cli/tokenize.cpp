#include <fmt/format.h>
#include <fmt/ranges.h>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <charconv>
#include <CLI/CLI.hpp>
#include <map>
#include <memory>

#include "actors/tokenizer/tokenizer.hpp"
#include "cli/commands.hpp"
#include "cli/input.hpp"
#include "cli/local.hpp"
#include "cli/output.hpp"
#include "cli/reach.hpp"

namespace troupe::cli {
namespace {

struct tokenize_command {
  std::vector<std::string> input;
  std::string model;
  bool decode = false;
  bool special = false;  // --no-special-tokens not given
  bool skip_special = false;
  bool json = false;
};

// What is asked of a folder's tokenizer or of a server.
class vocabulary {
 public:
  virtual ~vocabulary() = default;
  virtual std::vector<std::int32_t> encode(const std::string& text, bool special) = 0;
  virtual std::string decode(const std::vector<std::int32_t>& ids, bool skip_special) = 0;
  virtual std::string text_of(std::int32_t id) = 0;
};

class folder_vocabulary : public vocabulary {
 public:
  explicit folder_vocabulary(text::tokenizer_ptr t) : tokenizer_(std::move(t)) {}
  std::vector<std::int32_t> encode(const std::string& text, bool special) override {
    return tokenizer_->encode(text, special);
  }
  std::string decode(const std::vector<std::int32_t>& ids, bool skip_special) override {
    return tokenizer_->decode(ids, skip_special);
  }
  std::string text_of(std::int32_t id) override { return tokenizer_->token_bytes(id); }

 private:
  text::tokenizer_ptr tokenizer_;
};

// Throws client::failure.
class server_vocabulary : public vocabulary {
 public:
  server_vocabulary(client::connection c, std::string model)
      : connection_(std::move(c)), model_(std::move(model)) {}
  std::vector<std::int32_t> encode(const std::string& text, bool special) override {
    return connection_.tokenize(text, special, model_).ids;
  }
  std::string decode(const std::vector<std::int32_t>& ids, bool skip_special) override {
    return connection_.detokenize(ids, skip_special, model_);
  }
  // A tokenizer may drop a space at the beginning of a text: ask for the token behind another one.
  std::string text_of(std::int32_t id) override {
    if (const auto it = known_.find(id); it != known_.end()) return it->second;
    if (before_.empty()) {
      before_ = encode("a", false);
      before_text_ = decode(before_, false);
    }
    std::vector<std::int32_t> both = before_;
    both.push_back(id);
    const std::string text = decode(both, false);
    return known_[id] =
               text.starts_with(before_text_) ? text.substr(before_text_.size()) : decode({id}, false);
  }

 private:
  client::connection connection_;
  std::string model_;
  std::vector<std::int32_t> before_;
  std::string before_text_;
  std::map<std::int32_t, std::string> known_;
};

result<std::unique_ptr<vocabulary>> open_vocabulary(const tokenize_command& c, const context& shared) {
  if (means_folder(c.model)) {
    const auto folder = find_model(c.model, shared.paths);
    if (!folder) return fail(folder.error());
    auto tokenizer = text::load_tokenizer(*folder);
    if (!tokenizer) return fail(tokenizer.error());
    return std::make_unique<folder_vocabulary>(std::move(*tokenizer));
  }
  auto server = reach(shared, c.model);
  if (!server) return fail(server.error());
  return std::make_unique<server_vocabulary>(std::move(server->connection), server->model);
}

// A piece that is only part of a character: "<E2 82>".
std::string byte_list(std::string_view bytes) {
  std::vector<unsigned> values;
  for (const char c : bytes) values.push_back(static_cast<unsigned char>(c));
  return fmt::format("<{:02X}>", fmt::join(values, " "));
}

// "17 4 29", "[17, 4, 29]": anything between the numbers is skipped that is a space, comma or bracket.
result<std::vector<std::int32_t>> read_ids(std::string_view text) {
  std::vector<std::int32_t> ids;
  while (true) {
    const auto begin = text.find_first_not_of(" ,[]\t\n");
    if (begin == text.npos) return ids;
    text.remove_prefix(begin);
    const std::string_view word = text.substr(0, text.find_first_of(" ,[]\t\n"));
    std::int32_t id = 0;
    const auto [end, problem] = std::from_chars(word.data(), word.data() + word.size(), id);
    if (problem != std::errc() || end != word.data() + word.size())
      return fail(error_code::invalid_request, "{}: expected a token id", word);
    ids.push_back(id);
    text.remove_prefix(word.size());
  }
}

int show_ids(const tokenize_command& c, const std::string& text, vocabulary& v) {
  const auto ids = v.encode(text, c.special);
  boost::json::array numbers, pieces;
  std::vector<std::vector<std::string>> rows{{"ID", "PIECE"}};
  for (const std::int32_t id : ids) {
    const std::string bytes = v.text_of(id);
    numbers.emplace_back(id);
    pieces.emplace_back(valid_utf8(bytes));
    const bool whole = valid_utf8(bytes) == bytes;
    rows.push_back({std::to_string(id), whole ? "'" + escaped(bytes) + "'" : byte_list(bytes)});
  }
  if (c.json)
    return write_json(boost::json::object{{"ids", std::move(numbers)}, {"pieces", std::move(pieces)}})
               ? exit_ok
               : exit_failed;
  return write_out(fmt::format("{}\n\n{}{} tokens\n", fmt::join(ids, " "), table(rows), ids.size()))
             ? exit_ok
             : exit_failed;
}

int show_text(const tokenize_command& c, const std::string& input, vocabulary& v) {
  const auto ids = read_ids(input);
  if (!ids) return report(ids.error());
  const std::string text = v.decode(*ids, c.skip_special);
  return (c.json ? write_json(boost::json::object{{"text", text}}) : write_out(text + "\n")) ? exit_ok
                                                                                             : exit_failed;
}

int run_tokenize(const tokenize_command& c, const context& shared) {
  const auto input = argument_or_stdin(c.input);
  if (!input) return report(input.error());
  const auto v = open_vocabulary(c, shared);
  if (!v) return report(v.error());
  try {
    return c.decode ? show_text(c, *input, **v) : show_ids(c, *input, **v);
  } catch (const client::failure& f) {
    return report(to_error(f));
  }
}

}  // namespace

void add_tokenize(CLI::App& app, context& shared) {
  auto o = std::make_shared<tokenize_command>();
  o->special = true;
  auto* command = app.add_subcommand("tokenize", "Turn text into token ids, or ids into text");
  command->add_option("text", o->input, "Text, or ids with --decode; absent or - = standard input");
  command->add_option(
      "--model", o->model,
      "Checkpoint folder (with a slash; needs no server), or the name of a model at the server");
  auto* decode = command->add_flag("--decode", o->decode, "The input is token ids: show their text");
  command->add_flag("!--no-special-tokens", o->special, "Add none, such as a beginning of sequence")
      ->excludes(decode);
  command->add_flag("--skip-special-tokens", o->skip_special, "With --decode: special tokens have no text")
      ->needs(decode);
  command->add_flag("--json", o->json, "One JSON object on stdout");
  command->footer(
      "Examples:\n"
      "  troupe tokenize --model ./demo/mixtral-demo \"The capital of France\"\n"
      "  troupe tokenize --decode 1 415 5565\n"
      "  troupe tokenize --json < chapter.txt | jq '.ids | length'\n");
  command->callback([o, &shared] { shared.run = [o, &shared] { return run_tokenize(*o, shared); }; });
}

}  // namespace troupe::cli

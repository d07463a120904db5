// What a module says to configurations with a mistake. Which keys it reads is found out: those that change what it answers.
//
//   the mistake            what is expected of a key that is read
//   another type           a refusal that names the key
//   negative               a refusal that names the key, or one with which it does not fit
//   missing, extreme       the same, or a Program
//   a fraction             the same, or a Program that is another one than without it
//
// "Names" means the last part of the key ("rope_theta"), or, but for another type, the object around it. Keys that are not read are free.
#include <fmt/format.h>

#include <algorithm>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <cctype>
#include <set>

#include "sandbox/conformance/configs.hpp"
#include "sandbox/conformance/subject.hpp"

namespace troupe::conformance {

namespace {

namespace json = boost::json;
using sandbox::verdict;
using sandbox::verdict_kind;

// Configurations that are JSON, but none of a model.
std::vector<variant> nonsense() {
  std::string nested;
  for (int i = 0; i < 1000; ++i) nested += R"({"a":)";
  nested += "1";
  nested.append(1000, '}');
  json::parse_options deep;
  deep.max_depth = 2000;
  return {{"{}", "", change::other_type, json::object()},
          {"[]", "", change::other_type, json::array()},
          {"42", "", change::other_type, 42},
          {"null", "", change::other_type, nullptr},
          {"a string", "", change::other_type, "config"},
          {"1,000 objects in each other", "", change::other_type, json::parse(nested, {}, deep)}};
}

std::string nonsense_problem(const subject& s, const variant& v) {
  const auto program = s.build(v.config);
  if (program) return "expected a refusal, found a Program";
  return is_refusal(program.error()) ? "" : fault_of(program.error()) + "; expected a refusal";
}

// As a whole word.
bool names(std::string_view text, std::string_view key) {
  const auto in_word = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; };
  for (auto at = text.find(key); at != text.npos; at = text.find(key, at + 1)) {
    const auto end = at + key.size();
    if ((at == 0 || !in_word(text[at - 1])) && (end == text.size() || !in_word(text[end]))) return true;
  }
  return false;
}

// What the module answers to one configuration.
struct answer {
  variant asked;
  bool same = false;            // the Program of the configuration without the mistake
  std::optional<verdict> said;  // none = a Program
};

class mistake_judge {
 public:
  mistake_judge(const subject& s, check::group& out, const named_config& given)
      : s_(s), out_(out), given_(given) {}

  void run() {
    const auto whole = s_.build(given_.config);
    if (!whole) return;  // an earlier group says so
    whole_.assign(whole->bytes().begin(), whole->bytes().end());
    auto asked = other_values(given_.config);
    const auto wrong = mistakes(given_.config);
    asked.insert(asked.end(), wrong.begin(), wrong.end());
    ask(std::move(asked));
    auto more = extremes(given_.config);
    std::erase_if(more, [&](const variant& v) { return !read_.contains(v.key); });
    ask(std::move(more));
    for (const auto& a : answers_)
      if (a.asked.what != change::other_value)
        out_.add(fmt::format("{}, {}", given_.name, a.asked.name), problem(a));
  }

 private:
  void ask(std::vector<variant> asked) {
    for (std::size_t i = 0; i < asked.size(); ++i) {
      s_.progressed(out_.name(), i, asked.size());
      const auto program = s_.build(asked[i].config);
      answer a = {std::move(asked[i]), program && std::ranges::equal(program->bytes(), whole_), {}};
      if (!program) a.said = program.error();
      if (!a.same) read_.insert(a.asked.key);
      answers_.push_back(std::move(a));
    }
  }

  std::string problem(const answer& a) const {
    const auto key = last_part(a.asked.key);
    if (a.said && !is_refusal(*a.said))
      return fmt::format("{}; expected a refusal that names {}", fault_of(*a.said), key);
    if (a.said)
      return names_what_it_should(a)
                 ? ""
                 : fmt::format("expected a refusal that names {}, found: {}", key, a.said->text);
    if (!read_.contains(a.asked.key)) return "";
    const bool must_refuse = a.asked.what == change::other_type || a.asked.what == change::negative ||
                             (a.asked.what == change::fraction && a.same);
    return must_refuse ? fmt::format(
                             "expected a refusal that names {}, found a Program, though other values of the "
                             "key change it",
                             key)
                       : "";
  }

  bool names_what_it_should(const answer& a) const {
    const std::string& text = a.said->text;
    const std::string_view key = a.asked.key;
    if (names(text, last_part(key))) return true;
    if (a.asked.what == change::other_type) return false;
    const auto around = key.substr(0, key.size() - last_part(key).size());
    if (!around.empty() && names(text, last_part(around.substr(0, around.size() - 1)))) return true;
    return std::ranges::any_of(read_,
                               [&](const std::string& other) { return names(text, last_part(other)); });
  }

  const subject& s_;
  check::group& out_;
  const named_config& given_;
  std::vector<std::uint8_t> whole_;  // the Program's bytes
  std::vector<answer> answers_;
  std::set<std::string> read_;  // keys
};

}  // namespace

bool is_refusal(const verdict& v) {
  return (v.kind == verdict_kind::bad_config || v.kind == verdict_kind::unsupported) && !v.text.empty();
}

std::string fault_of(const verdict& v) {
  return v.text.starts_with(name_of(v.kind)) ? v.text : fmt::format("{}: {}", name_of(v.kind), v.text);
}

check::group check_mistakes(const subject& s) {
  check::group out("mistakes");
  for (const auto& v : nonsense()) out.add(v.name, nonsense_problem(s, v));
  for (const auto& given : s.configs()) mistake_judge(s, out, given).run();
  return out;
}

}  // namespace troupe::conformance

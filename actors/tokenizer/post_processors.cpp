#include "actors/tokenizer/post_processors.hpp"

namespace troupe::text {
namespace {

using ids = std::vector<std::int32_t>;

post_processor surround(ids before, ids after) {
  return [before = std::move(before), after = std::move(after)](ids text) {
    text.insert(text.begin(), before.begin(), before.end());
    text.insert(text.end(), after.begin(), after.end());
    return text;
  };
}

// Single texts only: what stands before and after {"Sequence": {"id": "A"}}.
post_processor make_template(const setting& s) {
  ids before;
  ids after;
  bool text_seen = false;
  for (const auto& item : s.at("single").items()) {
    if (item.has("Sequence")) {
      if (text_seen) item.refuse("the text stands in the template twice");
      text_seen = true;
    } else if (item.has("SpecialToken")) {
      const setting name = item.at("SpecialToken").at("id");
      for (const auto& id : s.at("special_tokens").at(name.string()).at("ids").items()) {
        (text_seen ? after : before).push_back(id.token_id());
      }
    } else {
      item.refuse("expected {\"SpecialToken\": ...} or {\"Sequence\": ...}");
    }
  }
  if (!text_seen) s.at("single").refuse("{\"Sequence\": ...} is missing");
  return surround(std::move(before), std::move(after));
}

// ["</s>", 2]
std::int32_t named_id(const setting& s) {
  const auto both = s.items();
  if (both.size() != 2) s.refuse("expected a token and its id");
  return both[1].token_id();
}

}  // namespace

post_processor make_post_processor(const setting& s) {
  if (s.is_null()) return {};
  const std::string type =
      s.type({"TemplateProcessing", "ByteLevel", "Sequence", "RobertaProcessing", "BertProcessing"});
  if (type == "TemplateProcessing") return make_template(s);
  if (type == "ByteLevel") return {};  // moves offsets only
  if (type == "Sequence") {
    std::vector<post_processor> steps;
    for (const auto& item : s.at("processors").items()) steps.push_back(make_post_processor(item));
    return [steps](ids text) {
      for (const auto& step : steps) {
        if (step) text = step(std::move(text));
      }
      return text;
    };
  }
  return surround({named_id(s.at("cls"))}, {named_id(s.at("sep"))});
}

}  // namespace troupe::text

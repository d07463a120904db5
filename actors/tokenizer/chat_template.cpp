#include "actors/tokenizer/chat_template.hpp"

#include <new>

#include "actors/tokenizer/jinja/interpreter.hpp"
#include "actors/tokenizer/jinja/parser.hpp"
#include "actors/tokenizer/utf8.hpp"

namespace troupe::text {

struct chat_template::impl {
  jinja::body program;
};

result<chat_template> chat_template::parse(std::string_view source) {
  if (!utf8::is_valid(source)) return fail(error_code::bad_checkpoint, "chat template: not UTF-8");
  try {
    auto parsed = std::make_shared<impl>();
    parsed->program = jinja::parser(jinja::tokenize(source)).parse();
    chat_template made;
    made.impl_ = std::move(parsed);
    return made;
  } catch (const jinja::failure& f) {
    return fail(error_code::bad_checkpoint, "chat template: line {}: {}", f.line, f.text);
  }
}

result<std::string> chat_template::render(const boost::json::object& variables,
                                          const template_limits& limits) const {
  int line = 1;
  try {
    jinja::interpreter run(variables, limits);
    try {
      return run.run(impl_->program);
    } catch (...) {
      line = run.line();
      throw;
    }
  } catch (const jinja::failure& f) {
    if (f.raised) return fail(error_code::template_failed, "{}", f.text);
    return fail(error_code::template_failed, "chat template: line {}: {}", line, f.text);
  } catch (const std::bad_alloc&) {
    return fail(error_code::template_failed, "chat template: line {}: out of memory", line);
  }
}

}  // namespace troupe::text

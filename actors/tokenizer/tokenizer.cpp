#include "actors/tokenizer/tokenizer.hpp"

#include <fmt/format.h>

#include <utility>

namespace troupe::text {
namespace {

class decode_at_the_end : public decoding {
 public:
  decode_at_the_end(const tokenizer& t, bool skip) : tokenizer_(t), skip_(skip) {}
  std::string push(std::int32_t id) override {
    ids_.push_back(id);
    return {};
  }
  std::string finish() override { return tokenizer_.decode(std::exchange(ids_, {}), skip_); }

 private:
  const tokenizer& tokenizer_;
  bool skip_;
  std::vector<std::int32_t> ids_;
};

}  // namespace

cannot_tokenize::cannot_tokenize(const std::string& reason, std::size_t byte)
    : std::runtime_error(fmt::format(
          "a regular expression of the tokenizer gave up at byte {} of the text ({})", byte, reason)) {}

const boost::json::object& tokenizer::special_tokens() const {
  static const boost::json::object none;
  return none;
}

std::unique_ptr<decoding> tokenizer::start_decoding(bool skip_special_tokens) const {
  return std::make_unique<decode_at_the_end>(*this, skip_special_tokens);
}

struct incremental_decoder::state {
  tokenizer_ptr owner;
  std::unique_ptr<decoding> running;
};

incremental_decoder::incremental_decoder(tokenizer_ptr t, bool skip_special_tokens)
    : state_(std::make_unique<state>()) {
  state_->running = t->start_decoding(skip_special_tokens);
  state_->owner = std::move(t);
}

incremental_decoder::~incremental_decoder() = default;
incremental_decoder::incremental_decoder(incremental_decoder&&) noexcept = default;
incremental_decoder& incremental_decoder::operator=(incremental_decoder&&) noexcept = default;

std::string incremental_decoder::push(std::int32_t id) {
  return state_->running->push(id);
}
std::string incremental_decoder::finish() {
  return state_->running->finish();
}

}  // namespace troupe::text

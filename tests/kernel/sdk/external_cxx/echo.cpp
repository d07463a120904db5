// The smallest module: answers with the token most like the last one.
#include <troupe/sdk/module.hpp>

using namespace troupe::sdk;

static void build(builder& b, const json& config) {
  const auto vocabulary = config.get<std::uint32_t>("vocab_size");
  const auto hidden = config.get<std::uint32_t>("hidden_size");
  b.facts({.architecture = "EchoForCausalLM",
           .vocabulary = vocabulary,
           .hidden = hidden,
           .layers = 1,
           .context_tokens = 1024});
  const auto table = b.weight("embedding.weight", {vocabulary, hidden});
  b.logits(b.linear(b.select_rows(b.embed(table)), table));
}

TROUPE_MODULE("echo", "0.1.0", "Answers with the token most like the last one", build, "EchoForCausalLM")

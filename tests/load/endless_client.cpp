// Streams one endless answer; writes a byte to standard output when the first chunk is there. Made to be killed.
// usage: endless_client ENDPOINT [WORDS]      WORDS: so many more in the prompt
#include <unistd.h>

#include <string>

#include "troupe/client.hpp"

int main(int argc, char** argv) {
  if (argc < 2 || argc > 3) return 2;
  namespace client = troupe::client;
  const auto server = client::connect(argv[1], {.timeout = std::chrono::seconds(20)});
  client::generate_request request;
  std::string prompt = "Once upon a time there was a king who had";
  for (int words = argc == 3 ? std::stoi(argv[2]) : 0; words > 0; --words) prompt += " very";
  request.prompt = client::text_prompt{prompt};
  request.sampling = client::sampling_options{.temperature = 0};
  request.stop.ignore_eos = true;
  request.stop.max_tokens = 30'000;
  auto stream = server.generate(request);
  bool said = false;
  while (stream.next()) {
    if (!said && ::write(1, "x", 1) != 1) return 1;
    said = true;
  }
  return 0;
}

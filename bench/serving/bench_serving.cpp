// Tokens per second of a running server, as clients see them.
//
// For each concurrency C: C client threads on connections of their own send one request after the other, each with a
// prompt of --input random token ids and exactly --output generated tokens (greedy, end-of-sequence ignored, no two
// prompts alike, so that the prefix cache has no part in it). Times are taken at the client.
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <CLI/CLI.hpp>
#include <cstdint>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "troupe/client.hpp"

namespace {

using steady = std::chrono::steady_clock;
namespace client = troupe::client;

struct options {
  std::string endpoint = "tcp://127.0.0.1:7410";
  std::vector<std::uint32_t> concurrency = {1, 8, 32, 64};
  std::uint32_t requests_per_client = 4;
  std::uint32_t input = 128;
  std::uint32_t output = 64;
};

struct samples {
  std::mutex guard;
  std::vector<double> first_token_ms;
  std::vector<double> gap_ms;  // between two chunks of a stream
  std::atomic<std::uint64_t> tokens{0};
  std::atomic<std::uint64_t> failed{0};
};

double milliseconds_since(steady::time_point from) {
  return std::chrono::duration<double, std::milli>(steady::now() - from).count();
}

double quantile(std::vector<double>& values, double q) {
  if (values.empty()) return 0;
  const auto at = static_cast<std::ptrdiff_t>(q * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), values.begin() + at, values.end());
  return values[static_cast<std::size_t>(at)];
}

void one_request(const client::connection& server, const options& o, std::vector<std::int32_t> ids,
                 samples& into) {
  client::generate_request request;
  request.prompt = client::token_prompt{std::move(ids)};
  request.sampling = client::sampling_options{.temperature = 0};
  request.stop.max_tokens = o.output;
  request.stop.ignore_eos = true;
  std::vector<double> gaps;
  const auto start = steady::now();
  auto last = start;
  double first = 0;
  auto stream = server.generate(request);
  while (stream.next(std::chrono::minutes(5))) {
    if (last == start) {
      first = milliseconds_since(start);
    } else {
      gaps.push_back(milliseconds_since(last));
    }
    last = steady::now();
  }
  into.tokens += stream.final().usage.generated_tokens;
  const std::lock_guard lock(into.guard);
  into.first_token_ms.push_back(first);
  into.gap_ms.insert(into.gap_ms.end(), gaps.begin(), gaps.end());
}

void one_client(const options& o, std::uint32_t vocabulary, std::uint64_t seed, samples& into) {
  std::mt19937_64 random(seed);
  // Ids of a vocabulary's middle: no special tokens, no single bytes.
  std::uniform_int_distribution<std::int32_t> any(300, static_cast<std::int32_t>(vocabulary) - 300);
  try {
    const auto server = client::connect(o.endpoint);
    for (std::uint32_t i = 0; i < o.requests_per_client; ++i) {
      std::vector<std::int32_t> ids(o.input);
      for (auto& id : ids) id = any(random);
      one_request(server, o, std::move(ids), into);
    }
  } catch (const client::failure& problem) {
    fmt::print(stderr, "bench_serving: {}\n", problem.what());
    ++into.failed;
  }
}

bool run(const options& o, std::uint32_t vocabulary, std::uint32_t concurrency, std::uint64_t seed) {
  samples all;
  const auto start = steady::now();
  std::vector<std::thread> clients;
  for (std::uint32_t i = 0; i < concurrency; ++i)
    clients.emplace_back([&, i] { one_client(o, vocabulary, seed + i, all); });
  for (auto& thread : clients) thread.join();
  const double seconds = milliseconds_since(start) / 1000;
  const std::uint64_t requests = std::uint64_t{concurrency} * o.requests_per_client;
  const double generated = static_cast<double>(all.tokens);
  const double prompt = static_cast<double>(requests * o.input);
  fmt::print("{:>8} {:>9.2f} {:>12.0f} {:>12.0f} {:>10.1f} {:>10.1f} {:>9.2f} {:>9.2f}\n", concurrency,
             static_cast<double>(requests) / seconds, generated / seconds, (generated + prompt) / seconds,
             quantile(all.first_token_ms, 0.5), quantile(all.first_token_ms, 0.99), quantile(all.gap_ms, 0.5),
             quantile(all.gap_ms, 0.99));
  return all.failed == 0;
}

}  // namespace

int main(int argc, char** argv) {
  options o;
  CLI::App app{"Tokens per second of a running Troupe server, as clients see them"};
  app.add_option("--endpoint", o.endpoint, "where the server listens")
      ->envname("TROUPE_ENDPOINT")
      ->capture_default_str();
  app.add_option("--concurrency", o.concurrency, "numbers of clients to try")->capture_default_str();
  app.add_option("--requests", o.requests_per_client, "requests of each client")->capture_default_str();
  app.add_option("--input", o.input, "prompt tokens")->capture_default_str();
  app.add_option("--output", o.output, "generated tokens")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  try {
    const auto server = client::connect(o.endpoint);
    const auto model = server.models().at(0);
    fmt::print("{} at {}: {} prompt tokens, {} generated tokens, {} requests a client\n", model.name,
               o.endpoint, o.input, o.output, o.requests_per_client);
    fmt::print("{:>8} {:>9} {:>12} {:>12} {:>10} {:>10} {:>9} {:>9}\n", "clients", "req/s", "gen tok/s",
               "all tok/s", "first p50", "first p99", "gap p50", "gap p99");
    fmt::print("{:>8} {:>9} {:>12} {:>12} {:>10} {:>10} {:>9} {:>9}\n", "", "", "", "", "ms", "ms", "ms",
               "ms");
    std::uint64_t seed = 1;
    bool good = true;
    for (const auto concurrency : o.concurrency) {
      good = run(o, model.vocabulary, concurrency, seed) && good;
      seed += concurrency;
    }
    return good ? 0 : 1;
  } catch (const client::failure& problem) {
    fmt::print(stderr, "bench_serving: {}\n", problem.what());
    return 1;
  }
}

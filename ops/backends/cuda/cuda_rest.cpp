// Sleep and wake: the weights go to host memory and come back to the same addresses. What else a step needs on the device is given
// back without a copy: it is written anew, and state begins with its sequence. Captured graphs stay.
#include <array>

#include "kernel/base/text.hpp"
#include "ops/backends/cuda/cuda_model.hpp"
#include "ops/backends/cuda/status.hpp"

namespace troupe::ops::cuda {

result<void> cuda_model::check_awake() const {
  if (!failure_.empty()) return fail(error_code::internal, "{}", failure_);
  if (copy_) return fail(error_code::internal, "a step of a model that sleeps");
  return {};
}

void cuda_model::give_back() {
  weights_.range().unmap();
  states_.unmap();
  buffers_.unmap();
}

result<rest_report> cuda_model::sleep() {
  if (auto able = check_awake(); !able) return fail(std::move(able.error()));
  if (in_flight_ != 0)
    return fail(error_code::internal, "sleep: {} steps are on their way and were not collected", in_flight_);
  if (auto done = device_->wait(); !done) return fail(std::move(done.error()));
  auto copy = host_copy::take(weights_.range().data(), weights_.bytes());
  if (!copy) return fail(std::move(copy.error()));
  copy_ = std::move(*copy);
  const rest_report done{weights_.range().bytes() + states_.bytes() + buffers_.bytes(), copy_->bytes(), {}};
  give_back();
  return done;
}

result<rest_report> cuda_model::wake() {
  if (!copy_) return fail(error_code::internal, "wake: the model does not sleep");
  const std::array<reserved_range*, 3> all = {&weights_.range(), &states_, &buffers_};
  rest_report done;
  for (const auto* one : all) done.device_bytes += one->last_bytes();
  const auto free = free_bytes();
  if (!free) return fail(free.error());
  if (done.device_bytes + driver_reserve > *free)
    return fail(error_code::no_room,
                "{} of weights, states and activations and {} for the driver wanted, {} free on the device: "
                "others have the rest",
                human_bytes(done.device_bytes), human_bytes(driver_reserve), human_bytes(*free));
  for (auto* one : all)
    if (auto mapped = one->map_again(); !mapped) {
      give_back();
      return fail(error_code::no_room, "{}", mapped.error().text);
    }
  if (auto brought = copy_->bring_back(weights_.range().data()); !brought) {
    give_back();
    return fail(std::move(brought.error()));
  }
  done.host_bytes = copy_->bytes();
  done.spent = std::shared_ptr<host_copy>(std::move(copy_));
  return done;
}

}  // namespace troupe::ops::cuda

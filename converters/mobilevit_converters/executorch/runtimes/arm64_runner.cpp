// Answers images with a method of a .pte file, such as `forward`, in the frames that
// mobilevit_sdk/processes/external_runtime.py describes.
//
//     runner FILE METHOD SIZE...    the sizes of the image's axes

#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor.h>
#include <executorch/extension/threadpool/threadpool_guard.h>
#include <executorch/runtime/platform/platform.h>

#include <poll.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

using executorch::aten::ScalarType;
using executorch::extension::Module;
using executorch::runtime::Error;

namespace {

struct Header {
  char kind[4];
  uint32_t length;
};

void send(const char* kind, const void* payload = nullptr, size_t length = 0) {
  Header header{};
  std::memcpy(header.kind, kind, sizeof header.kind);
  header.length = static_cast<uint32_t>(length);
  std::fwrite(&header, sizeof header, 1, stdout);
  std::fwrite(payload, 1, length, stdout);
  std::fflush(stdout);
}

std::string complaint;  // the first of the runtime, which the others follow from

void keep_complaint(
    et_timestamp_t, et_pal_log_level_t level, const char*, const char*, size_t, const char* message, size_t) {
  if (level == et_pal_log_level_t::kError && complaint.empty()) {
    complaint = std::string(" (") + message + ")";
  }
  std::fprintf(stderr, "%s\n", message);
}

[[noreturn]] void refuse(const std::string& step, Error error) {
  const std::string reason = "ExecuTorch cannot " + step + " it: " + executorch::runtime::to_string(error) + complaint;
  send("FAIL", reason.data(), reason.size());
  std::_Exit(0);
}

// A computation that never ends does not outlive who asked for it.
void end_with_parent() {
  pollfd input{0, 0, 0};
  poll(&input, 1, -1);
  std::_Exit(1);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    return 0;  // it starts, and so do its libraries
  }
  std::thread(end_with_parent).detach();
  executorch::runtime::register_pal(executorch::runtime::PalImpl::create(keep_complaint, __FILE__));
  // One thread, as LiteRT's: what it executes is the same number of instructions each time.
  const executorch::extension::threadpool::NoThreadPoolGuard one_thread;
  std::vector<int32_t> sizes;
  size_t count = 1;
  for (int i = 3; i < argc; ++i) {
    sizes.push_back(std::atoi(argv[i]));
    count *= sizes.back();
  }
  Module program(argv[1]);
  const std::string method(argv[2]);
  if (const Error error = program.load_method(method); error != Error::Ok) {
    refuse("load", error);
  }
  send("REDY");

  std::vector<float> image(count);
  std::vector<char> answer;  // all outputs, one after the other
  Header header;
  while (std::fread(&header, sizeof header, 1, stdin) == 1) {
    if (header.length != count * sizeof(float) || std::fread(image.data(), header.length, 1, stdin) != 1) {
      std::fprintf(stderr, "an image of %u bytes, not of %zu floats\n", header.length, count);
      std::_Exit(2);
    }
    const auto outputs = program.execute(method, executorch::extension::from_blob(image.data(), sizes, ScalarType::Float));
    if (!outputs.ok()) {
      refuse("run", outputs.error());
    }
    answer.clear();
    for (const auto& output : *outputs) {
      if (!output.isTensor()) {
        refuse("answer with", Error::InvalidType);
      }
      const auto values = output.toTensor();
      const auto* first = static_cast<const char*>(values.const_data_ptr());
      answer.insert(answer.end(), first, first + values.nbytes());
    }
    send("SCOR", answer.data(), answer.size());
  }
  std::_Exit(0);
}

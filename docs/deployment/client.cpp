// Classifies a picture with a net that export_onnx.py wrote, through ONNX Runtime's C API alone.
//
//   client MODEL PICTURE.ppm [--mean B,G,R] [--cuda N]
//
// The picture is a binary PPM (P6) of the size that the model takes.  A model that was exported with --preprocess takes
// its bytes as they are; another one takes blue, green, red less --mean, as Caffe's nets do.  Prints the five highest
// numbers of the first output, "index score".  Exit status 1 with a line on stderr says what is wrong.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "onnxruntime_c_api.h"

namespace {

// The oldest version of the API that has all that is used: any ONNX Runtime from 1.17 on runs this program.
constexpr uint32_t kApi = 17;
const OrtApi* api = nullptr;

void check(OrtStatus* status) {
  if (status == nullptr) return;
  const std::string message = api->GetErrorMessage(status);
  api->ReleaseStatus(status);
  throw std::runtime_error(message);
}

template <class T>
using Owned = std::unique_ptr<T, void (*)(T*)>;

struct Picture {
  int64_t height = 0, width = 0;
  std::vector<uint8_t> rgb;
};

Picture read_ppm(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  std::string magic;
  int64_t most = 0;
  Picture found;
  stream >> magic >> found.width >> found.height >> most;
  stream.get();
  const bool sane = found.width > 0 && found.height > 0 && found.width < 65536 && found.height < 65536;
  if (!stream || magic != "P6" || most != 255 || !sane)
    throw std::runtime_error(path + ": is no binary PPM (P6) of 8 bits");
  found.rgb.resize(static_cast<size_t>(found.width * found.height * 3));
  stream.read(reinterpret_cast<char*>(found.rgb.data()), static_cast<std::streamsize>(found.rgb.size()));
  if (!stream) throw std::runtime_error(path + ": ends before its last row");
  return found;
}

struct Input {
  std::string name;
  std::vector<int64_t> shape;  // -1 where a size is open
  ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
};

Input first_input(const OrtSession* session, OrtAllocator* allocator) {
  size_t count = 0;
  check(api->SessionGetInputCount(session, &count));
  if (count != 1) throw std::runtime_error("the model takes " + std::to_string(count) + " inputs, expected one picture");
  Input found;
  char* name = nullptr;
  check(api->SessionGetInputName(session, 0, allocator, &name));
  found.name = name;
  check(api->AllocatorFree(allocator, name));
  OrtTypeInfo* info = nullptr;
  check(api->SessionGetInputTypeInfo(session, 0, &info));
  const Owned<OrtTypeInfo> owner(info, api->ReleaseTypeInfo);
  const OrtTensorTypeAndShapeInfo* tensor = nullptr;
  check(api->CastTypeInfoToTensorInfo(info, &tensor));
  if (tensor == nullptr) throw std::runtime_error("input " + found.name + " is no tensor");
  size_t rank = 0;
  check(api->GetDimensionsCount(tensor, &rank));
  found.shape.resize(rank);
  check(api->GetDimensions(tensor, found.shape.data(), rank));
  check(api->GetTensorElementType(tensor, &found.type));
  return found;
}

std::string metadata(const OrtSession* session, OrtAllocator* allocator, const char* key) {
  OrtModelMetadata* all = nullptr;
  check(api->SessionGetModelMetadata(session, &all));
  const Owned<OrtModelMetadata> owner(all, api->ReleaseModelMetadata);
  char* value = nullptr;
  check(api->ModelMetadataLookupCustomMetadataMap(all, allocator, key, &value));
  if (value == nullptr) return "";
  const std::string found = value;
  check(api->AllocatorFree(allocator, value));
  return found;
}

void require(int64_t wanted, int64_t have, const char* what) {
  if (wanted >= 0 && wanted != have)
    throw std::runtime_error(std::string("the picture's ") + what + " is " + std::to_string(have) +
                             ", the model takes " + std::to_string(wanted));
}

// The bytes or numbers of the picture as the model takes them, and their shape.
struct Blob {
  std::vector<uint8_t> bytes;
  std::vector<float> numbers;
  std::vector<int64_t> shape;
};

Blob blob_of(const Picture& picture, const Input& input, const std::string& in_graph, const float mean[3]) {
  if (input.shape.size() != 4) throw std::runtime_error("input " + input.name + " has other than 4 axes");
  const bool bytes = input.type == ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8;
  if (!bytes && input.type != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT)
    throw std::runtime_error("input " + input.name + " takes neither bytes nor float32");
  require(input.shape[bytes ? 1 : 2], picture.height, "height");
  require(input.shape[bytes ? 2 : 3], picture.width, "width");
  require(input.shape[bytes ? 3 : 1], 3, "number of channels");
  require(input.shape[0], 1, "batch");
  const size_t pixels = picture.rgb.size() / 3;
  Blob blob;
  if (bytes) {
    blob.shape = {1, picture.height, picture.width, 3};
    blob.bytes = picture.rgb;
    if (in_graph.find("\"order\": \"rgb\"") == std::string::npos)
      for (size_t at = 0; at < pixels; ++at) std::swap(blob.bytes[3 * at], blob.bytes[3 * at + 2]);
    return blob;
  }
  blob.shape = {1, 3, picture.height, picture.width};
  blob.numbers.resize(3 * pixels);
  for (size_t channel = 0; channel < 3; ++channel)  // blue, green, red
    for (size_t at = 0; at < pixels; ++at)
      blob.numbers[channel * pixels + at] = static_cast<float>(picture.rgb[3 * at + 2 - channel]) - mean[channel];
  return blob;
}

Owned<OrtSession> open(OrtEnv* env, const char* model, int cuda) {
  OrtSessionOptions* options = nullptr;
  check(api->CreateSessionOptions(&options));
  const Owned<OrtSessionOptions> owner(options, api->ReleaseSessionOptions);
  if (cuda >= 0) {
    OrtCUDAProviderOptionsV2* provider = nullptr;
    check(api->CreateCUDAProviderOptions(&provider));
    const Owned<OrtCUDAProviderOptionsV2> kept(provider, api->ReleaseCUDAProviderOptions);
    const std::string number = std::to_string(cuda);
    const char* keys[] = {"device_id", "use_tf32"};  // float32 all through, as in Caffe
    const char* values[] = {number.c_str(), "0"};
    check(api->UpdateCUDAProviderOptions(provider, keys, values, 2));
    check(api->SessionOptionsAppendExecutionProvider_CUDA_V2(options, provider));  // fails where there is no GPU
  }
  OrtSession* session = nullptr;
  check(api->CreateSession(env, model, options, &session));
  return {session, api->ReleaseSession};
}

void run(const char* model, const std::string& path, const float mean[3], int cuda) {
  OrtEnv* environment = nullptr;
  check(api->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "client", &environment));
  const Owned<OrtEnv> env(environment, api->ReleaseEnv);
  const Owned<OrtSession> session = open(env.get(), model, cuda);
  OrtAllocator* allocator = nullptr;
  check(api->GetAllocatorWithDefaultOptions(&allocator));
  const Input input = first_input(session.get(), allocator);
  const std::string in_graph = metadata(session.get(), allocator, "preprocessing_in_graph");
  Blob blob = blob_of(read_ppm(path), input, in_graph, mean);

  OrtMemoryInfo* memory = nullptr;
  check(api->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));
  const Owned<OrtMemoryInfo> cpu(memory, api->ReleaseMemoryInfo);
  const bool bytes = !blob.bytes.empty();
  void* data = bytes ? static_cast<void*>(blob.bytes.data()) : static_cast<void*>(blob.numbers.data());
  const size_t size = bytes ? blob.bytes.size() : blob.numbers.size() * sizeof(float);
  OrtValue* fed = nullptr;
  check(api->CreateTensorWithDataAsOrtValue(memory, data, size, blob.shape.data(), blob.shape.size(), input.type, &fed));
  const Owned<OrtValue> value(fed, api->ReleaseValue);

  char* name = nullptr;
  check(api->SessionGetOutputName(session.get(), 0, allocator, &name));
  const std::string output = name;
  check(api->AllocatorFree(allocator, name));
  const char* inputs[] = {input.name.c_str()};
  const char* outputs[] = {output.c_str()};
  const OrtValue* values[] = {value.get()};
  OrtValue* made = nullptr;
  check(api->Run(session.get(), nullptr, inputs, values, 1, outputs, 1, &made));
  const Owned<OrtValue> result(made, api->ReleaseValue);

  OrtTensorTypeAndShapeInfo* info = nullptr;
  check(api->GetTensorTypeAndShape(result.get(), &info));
  const Owned<OrtTensorTypeAndShapeInfo> kept(info, api->ReleaseTensorTypeAndShapeInfo);
  size_t count = 0;
  check(api->GetTensorShapeElementCount(info, &count));
  ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
  check(api->GetTensorElementType(info, &type));
  if (type != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT) throw std::runtime_error("output " + output + " is not float32");
  void* raw = nullptr;
  check(api->GetTensorMutableData(result.get(), &raw));
  const float* scores = static_cast<const float*>(raw);
  std::vector<size_t> order(count);
  std::iota(order.begin(), order.end(), size_t{0});
  const size_t shown = std::min<size_t>(5, count);
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(shown), order.end(),
                    [scores](size_t a, size_t b) { return scores[a] > scores[b]; });
  for (size_t rank = 0; rank < shown; ++rank) std::printf("%zu %.6f\n", order[rank], scores[order[rank]]);
}

}  // namespace

int main(int argc, char** argv) try {
  const std::vector<std::string> words(argv + 1, argv + argc);
  float mean[3] = {0, 0, 0};
  int cuda = -1;
  for (size_t at = 2; at < words.size(); at += 2) {
    const bool has = at + 1 < words.size();
    if (has && words[at] == "--mean" && std::sscanf(words[at + 1].c_str(), "%f,%f,%f", mean, mean + 1, mean + 2) == 3)
      continue;
    if (has && words[at] == "--cuda" && std::sscanf(words[at + 1].c_str(), "%d", &cuda) == 1 && cuda >= 0) continue;
    throw std::runtime_error("cannot read '" + words[at] + "', expected --mean B,G,R or --cuda N");
  }
  if (words.size() < 2) throw std::runtime_error("usage: client MODEL PICTURE.ppm [--mean B,G,R] [--cuda N]");
  api = OrtGetApiBase()->GetApi(kApi);
  if (api == nullptr) throw std::runtime_error("this ONNX Runtime is older than 1.17");
  run(words[0].c_str(), words[1], mean, cuda);
  return 0;
} catch (const std::exception& error) {
  std::cerr << "error: " << error.what() << "\n";
  return 1;
}

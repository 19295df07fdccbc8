// The header of Debian's libonnxruntime-dev; scripts/install-swift.sh puts it there.
#include <onnxruntime/onnxruntime_c_api.h>

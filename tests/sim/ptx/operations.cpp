// The table of all instructions.
#include "sim/ptx/decoder.h"

namespace sim::ptx {

const Operations& operations() {
    static const Operations table = [] {
        Operations all;
        for (const auto add :
             {&add_integer_operations, &add_wide_integer_operations, &add_bit_operations, &add_shift_operations,
              &add_compare_operations, &add_select_operations, &add_float_operations, &add_divide_operations,
              &add_approximate_operations, &add_move_operations, &add_convert_operations, &add_memory_operations,
              &add_atomic_operations, &add_control_operations, &add_barrier_operations, &add_collective_operations,
              &add_matrix_operations, &add_async_operations})
            add(all);
        return all;
    }();
    return table;
}

}  // namespace sim::ptx

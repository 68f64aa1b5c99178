// Cooperative groups: the block, tiles of a warp, groups of some of a warp's lanes, and the grid.
//
// Groups within a warp are lane masks; what they do together is an exchange over that mask.
// Unsupported, and reported when used: grid.sync(), tiles of more than 32 threads, memcpy_async.
// Clusters do not exist.
#pragma once

#include <bit>
#include <cstring>
#include <type_traits>
#include <utility>

#include "emulated/integers.h"
#include "emulated/warp.h"

namespace cooperative_groups {

class thread_block;
template <unsigned Size, class Parent = void>
class thread_block_tile;

namespace details {

inline unsigned block_size() { return blockDim.x * blockDim.y * blockDim.z; }
inline unsigned first_lanes(unsigned n) { return n >= 32 ? emulated::kFullWarp : (1u << n) - 1; }
inline unsigned lanes_below() { return first_lanes(emulated::lane()); }

// Every lane's value of a type of any size, brought 16 bytes at a time.
template <class T>
class Everyones {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 32);
    static constexpr int pieces = (sizeof(T) + 15) / 16;
    emulated::Exchange parts[pieces];

  public:
    KH_INLINE Everyones(unsigned mask, const T& mine) {
        for (int i = 0; i < pieces; i++) {
            const size_t size = sizeof(T) - 16 * i < 16 ? sizeof(T) - 16 * i : 16;
            emulated::exchange(mask, reinterpret_cast<const unsigned char*>(&mine) + 16 * i, size,
                               parts[i]);
        }
    }
    unsigned lanes() const { return parts[0].lanes; }
    T operator[](unsigned lane) const {
        union Holder {  // T may have no default constructor
            unsigned char bytes[16 * pieces];
            T value;
            Holder() {}
        } holder;
        for (int i = 0; i < pieces; i++) {
            std::memcpy(holder.bytes + 16 * i, parts[i].values[lane], 16);
        }
        return holder.value;
    }
    T from(unsigned lane, const T& otherwise) const {
        return lane < 32 && (lanes() >> lane & 1) ? (*this)[lane] : otherwise;
    }
};

}  // namespace details

// ---- any group ----

class thread_group {
  public:
    unsigned long long size() const { return num_threads(); }
    unsigned long long num_threads() const {
        return of_block_ ? details::block_size() : std::popcount(mask_);
    }
    unsigned long long thread_rank() const {
        return of_block_ ? emulated::linear_thread()
                         : std::popcount(mask_ & details::lanes_below());
    }
    KH_INLINE void sync() const {
        if (of_block_) emulated::barrier();
        else __syncwarp(mask_);
    }

  protected:
    explicit thread_group(bool of_block, unsigned mask) : of_block_(of_block), mask_(mask) {}
    bool of_block_;
    unsigned mask_;  // of lanes, where it is not the block

    friend thread_group tiled_partition(const thread_group& parent, unsigned size);
};

// ---- the block ----

class thread_block : public thread_group {
  public:
    KH_INLINE static void sync(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
        emulated::barrier(0, emulated::Vote::none, file, line);
    }
    static unsigned size() { return details::block_size(); }
    static unsigned num_threads() { return details::block_size(); }
    static unsigned thread_rank() { return emulated::linear_thread(); }
    static dim3 group_index() { return blockIdx; }
    static dim3 thread_index() { return threadIdx; }
    static dim3 group_dim() { return blockDim; }
    static dim3 dim_threads() { return blockDim; }

    struct arrival_token {};
    arrival_token barrier_arrive() const { return {}; }
    KH_INLINE void barrier_wait(arrival_token&&) const { emulated::barrier(); }

  private:
    thread_block() : thread_group(true, 0) {}
    friend thread_block this_thread_block();
};

inline thread_block this_thread_block() { return {}; }

// ---- the grid ----

class grid_group {
  public:
    bool is_valid() const { return false; }  // as in a launch that is not cooperative
    void sync() const { emulated::unsupported("cooperative_groups: sync of the grid"); }

    static unsigned long long num_blocks() {
        return static_cast<unsigned long long>(gridDim.x) * gridDim.y * gridDim.z;
    }
    static unsigned long long block_rank() {
        return blockIdx.x +
               static_cast<unsigned long long>(gridDim.x) * (blockIdx.y + gridDim.y * blockIdx.z);
    }
    static unsigned long long num_threads() { return num_blocks() * details::block_size(); }
    static unsigned long long size() { return num_threads(); }
    static unsigned long long thread_rank() {
        return block_rank() * details::block_size() + emulated::linear_thread();
    }
    static dim3 group_dim() { return gridDim; }
    static dim3 dim_blocks() { return gridDim; }
    static dim3 block_index() { return blockIdx; }
    static dim3 dim_threads() {
        return {gridDim.x * blockDim.x, gridDim.y * blockDim.y, gridDim.z * blockDim.z};
    }
    static dim3 thread_index() {
        return {blockIdx.x * blockDim.x + threadIdx.x, blockIdx.y * blockDim.y + threadIdx.y,
                blockIdx.z * blockDim.z + threadIdx.z};
    }
};

inline grid_group this_grid() { return {}; }

// ---- some lanes of a warp ----

class coalesced_group : public thread_group {
  public:
    unsigned size() const { return num_threads(); }
    unsigned num_threads() const { return std::popcount(mask_); }
    unsigned thread_rank() const { return std::popcount(mask_ & details::lanes_below()); }
    unsigned meta_group_rank() const { return meta_rank_; }
    unsigned meta_group_size() const { return meta_size_; }
    unsigned get_mask() const { return mask_; }  // ours
    KH_INLINE void sync() const { __syncwarp(mask_); }

    template <class T>
    KH_INLINE T shfl(T value, unsigned rank) const {
        return details::Everyones<T>(mask_, value).from(lane_of(rank), value);
    }
    template <class T>
    KH_INLINE T shfl_up(T value, unsigned delta) const {
        const unsigned me = thread_rank();
        return shfl(value, delta > me ? me : me - delta);
    }
    template <class T>
    KH_INLINE T shfl_down(T value, unsigned delta) const {
        const unsigned me = thread_rank();
        return shfl(value, delta >= size() - me ? me : me + delta);
    }
    KH_INLINE int any(int predicate) const { return __any_sync(mask_, predicate); }
    KH_INLINE int all(int predicate) const { return __all_sync(mask_, predicate); }
    KH_INLINE unsigned ballot(int predicate) const {
        return by_rank(__ballot_sync(mask_, predicate));
    }
    template <class T>
    KH_INLINE unsigned match_any(T value) const {
        return by_rank(__match_any_sync(mask_, value));
    }
    template <class T>
    KH_INLINE unsigned match_all(T value, int& all_equal) const {
        return by_rank(__match_all_sync(mask_, value, &all_equal));
    }

    coalesced_group(unsigned mask, unsigned meta_rank = 0, unsigned meta_size = 1)  // ours
        : thread_group(false, mask), meta_rank_(meta_rank), meta_size_(meta_size) {}

  private:
    unsigned lane_of(unsigned rank) const { return __fns(mask_, 0, static_cast<int>(rank) + 1); }
    unsigned by_rank(unsigned lanes) const {
        unsigned packed = 0, rank = 0;
        for (unsigned i = 0; i < 32; i++) {
            if (mask_ >> i & 1) packed |= (lanes >> i & 1) << rank++;
        }
        return packed;
    }
    unsigned meta_rank_, meta_size_;
};

KH_INLINE coalesced_group coalesced_threads(const char* file = __builtin_FILE(),
                                            int line = __builtin_LINE()) {
    return coalesced_group(emulated::converged_lanes(file, line));
}

// ---- tiles: 1, 2, 4 ... 32 neighbouring lanes ----

template <unsigned Size>
class thread_block_tile<Size, void> : public thread_group {
    static_assert(Size > 0 && (Size & (Size - 1)) == 0 && Size <= 1024);
    static constexpr unsigned kWidth = Size < 32 ? Size : 32;

  public:
    static constexpr unsigned size() { return Size; }
    static constexpr unsigned num_threads() { return Size; }
    static unsigned thread_rank() { return emulated::linear_thread() % Size; }
    unsigned meta_group_rank() const { return meta_rank_; }
    unsigned meta_group_size() const { return meta_size_; }
    unsigned get_mask() const { return mask_; }  // ours
    KH_INLINE void sync() const { __syncwarp(mask_); }

    template <class T>
    KH_INLINE T shfl(T value, int rank) const {
        const unsigned to = first() + (static_cast<unsigned>(rank) & (kWidth - 1));
        return details::Everyones<T>(mask_, value).from(to, value);
    }
    template <class T>
    KH_INLINE T shfl_up(T value, unsigned delta) const {
        const unsigned me = thread_rank();
        return shfl(value, delta > me ? me : me - delta);
    }
    template <class T>
    KH_INLINE T shfl_down(T value, unsigned delta) const {
        const unsigned me = thread_rank();
        return shfl(value, delta >= kWidth - me ? me : me + delta);
    }
    template <class T>
    KH_INLINE T shfl_xor(T value, unsigned bits) const {
        const unsigned me = thread_rank();
        return shfl(value, bits >= kWidth ? me : me ^ bits);
    }
    KH_INLINE int any(int predicate) const { return __any_sync(mask_, predicate); }
    KH_INLINE int all(int predicate) const { return __all_sync(mask_, predicate); }
    KH_INLINE unsigned ballot(int predicate) const {
        return __ballot_sync(mask_, predicate) >> first();
    }
    template <class T>
    KH_INLINE unsigned match_any(T value) const {
        return __match_any_sync(mask_, value) >> first();
    }
    template <class T>
    KH_INLINE unsigned match_all(T value, int& all_equal) const {
        return __match_all_sync(mask_, value, &all_equal) >> first();
    }

    template <class Parent>
    thread_block_tile(const thread_block_tile<Size, Parent>& other)
        : thread_block_tile(other.meta_group_rank(), other.meta_group_size()) {}
    thread_block_tile(unsigned meta_rank, unsigned meta_size)  // ours
        : thread_group(false, details::first_lanes(Size) << first()),
          meta_rank_(meta_rank),
          meta_size_(meta_size) {
        if (Size > 32) emulated::unsupported("cooperative_groups: a tile of more than 32 threads");
    }

  private:
    static unsigned first() { return emulated::lane() & ~(kWidth - 1); }
    unsigned meta_rank_, meta_size_;
};

template <unsigned Size, class Parent>
class thread_block_tile : public thread_block_tile<Size, void> {
  public:
    using thread_block_tile<Size, void>::thread_block_tile;
};

inline thread_block_tile<1> this_thread() { return {0, 1}; }

template <unsigned Size>
thread_block_tile<Size, thread_block> tiled_partition(const thread_block&) {
    return {emulated::linear_thread() / Size, (details::block_size() + Size - 1) / Size};
}
template <unsigned Size, unsigned ParentSize, class GrandParent>
thread_block_tile<Size, thread_block_tile<ParentSize, GrandParent>> tiled_partition(
    const thread_block_tile<ParentSize, GrandParent>& parent) {
    static_assert(Size <= ParentSize);
    return {parent.thread_rank() / Size, ParentSize / Size};
}

// Of a size known at run time: neighbours by rank.
inline coalesced_group tiled_partition(const coalesced_group& parent, unsigned size) {
    const unsigned rank = parent.thread_rank(), tile = rank / size;
    unsigned mask = 0, at = 0;
    for (unsigned i = 0; i < 32; i++) {
        if ((parent.get_mask() >> i & 1) && at++ / size == tile) mask |= 1u << i;
    }
    return {mask, tile, (parent.size() + size - 1) / size};
}
inline thread_group tiled_partition(const thread_group& parent, unsigned size) {
    if (size == 0 || size > 32 || (size & (size - 1))) {
        emulated::trap("trap", "cooperative_groups: no size of a tile", nullptr, 0);
    }
    if (!parent.of_block_) return tiled_partition(coalesced_group(parent.mask_), size);
    const unsigned rank = emulated::linear_thread(), first = emulated::lane() & ~(size - 1);
    const unsigned left = details::block_size() - (rank - rank % size);
    return coalesced_group(details::first_lanes(left < size ? left : size) << first, rank / size,
                           (details::block_size() + size - 1) / size);
}

// Of those lanes that agree in a predicate or a label.
template <class Group>
KH_INLINE coalesced_group binary_partition(const Group& group, bool predicate) {
    const unsigned mask = group.get_mask(), set = __ballot_sync(mask, predicate);
    return {mask & (predicate ? set : ~set), predicate, 2};
}
template <class Group, class Label>
KH_INLINE coalesced_group labeled_partition(const Group& group, Label label) {
    return {__match_any_sync(group.get_mask(), label)};
}

// ---- functions for all groups ----

template <class Group>
KH_INLINE void sync(const Group& group) {
    group.sync();
}
template <class Group>
auto thread_rank(const Group& group) {
    return group.thread_rank();
}
template <class Group>
auto group_size(const Group& group) {
    return group.num_threads();
}
template <class Group, class Function, class... Arguments>
void invoke_one(const Group& group, Function&& function, Arguments&&... arguments) {
    if (group.thread_rank() == 0) {
        std::forward<Function>(function)(std::forward<Arguments>(arguments)...);
    }
}

}  // namespace cooperative_groups

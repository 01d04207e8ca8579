/* libmlx5.so.1 for a node without the provider of NVIDIA's network cards (Debian's ibverbs-providers has the real one).
   Every call answers that it is not supported, as mlx5dv(7) does for a device of another kind. */

#include <errno.h>
#include <stddef.h>

#define NO_OBJECT(call) \
    void *call(void)    \
    {                   \
        errno = ENOTSUP; \
        return NULL;    \
    }
#define REFUSED(call) \
    int call(void) { return ENOTSUP; }

NO_OBJECT(mlx5dv_devx_alloc_uar)
NO_OBJECT(mlx5dv_devx_obj_create)
NO_OBJECT(mlx5dv_devx_umem_reg)
REFUSED(mlx5dv_devx_free_uar)
REFUSED(mlx5dv_devx_general_cmd)
REFUSED(mlx5dv_devx_obj_destroy)
REFUSED(mlx5dv_devx_obj_modify)
REFUSED(mlx5dv_devx_query_eqn)
REFUSED(mlx5dv_devx_umem_dereg)
REFUSED(mlx5dv_init_obj)

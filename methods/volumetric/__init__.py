"""Volumetric triangulation: learnable triangulation of human pose (Iskakov et al., ICCV 2019), section 3.2."""

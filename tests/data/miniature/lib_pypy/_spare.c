/* A module that a release may leave out. */
int mini_spare(void)
{
    return 0;
}
